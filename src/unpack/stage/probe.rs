//! Finds out what becomes of a file's attributes when it is unpacked here, by this caller: by trying, on an empty file
//! that is removed again. Whoever compares an image with a tree that was unpacked from it wants no more than that.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use hashbrown::HashMap;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::{Capabilities, Subject};
use crate::core::record::{Attributes, LayerPath, Xattrs};
use crate::core::text::Timestamp;
use crate::fs::{open_directory, open_path};
use crate::tree::{TreeEntry, TreeKind, entry_at};
use crate::unpack::{Error, Losses, Options, io};

const PROBE: &str = "probe";
const CLOCK: &str = "clock";

/// Tries attributes in a directory.
#[derive(Debug)]
pub struct AttributeProbe {
    directory: OwnedFd,
    /// A file whose times are set.
    clock: OwnedFd,
    capabilities: Capabilities,
    known: HashMap<Key, Option<TreeEntry>>,
}

/// All that decides, besides the time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    xattrs: Xattrs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Directory,
    File,
    Symlink,
    Fifo,
    Device { is_block: bool, major: u32, minor: u32 },
}

impl AttributeProbe {
    /// Tries in an empty directory of the caller's own, which is to be removed afterwards.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn new(directory: &Path, options: &Options) -> Result<Self, Error> {
        let failed = || io("cannot find out what the temporary directory can hold");
        let directory = open_path(directory).map_err(failed())?;
        let capabilities = Capabilities::probe(directory.as_fd(), None, options).map_err(failed())?;
        let clock = create(&directory, CLOCK).map_err(failed())?;
        Ok(Self { directory, clock, capabilities, known: HashMap::new() })
    }

    /// What a file of this kind with these attributes is when it is unpacked; nothing, if it cannot be made at all.
    pub(crate) fn entry(&mut self, kind: TreeKind, attributes: &Attributes) -> Result<Option<TreeEntry>, Error> {
        let owner = (attributes.uid, attributes.gid);
        let probed = match kind {
            TreeKind::Directory => Kind::Directory,
            TreeKind::Symlink { .. } => Kind::Symlink,
            TreeKind::Fifo => Kind::Fifo,
            TreeKind::CharacterDevice(major, minor) => Kind::Device { is_block: false, major, minor },
            TreeKind::BlockDevice(major, minor) => Kind::Device { is_block: true, major, minor },
            // An archive has neither sockets nor ghosts.
            TreeKind::File { .. } | TreeKind::Socket | TreeKind::Ghost => Kind::File,
        };
        let key = Key { kind: probed, mode: attributes.mode, owner, xattrs: attributes.xattrs.clone() };
        let failed = || io("cannot find out what the temporary directory can hold");
        let found = match self.known.get(&key) {
            Some(found) => found.clone(),
            None => {
                let found = self.make(probed, attributes).map_err(failed())?;
                self.known.insert(key, found.clone());
                found
            }
        };
        let Some(found) = found else { return Ok(None) };
        let mtime = self.time(attributes.mtime).map_err(failed())?;
        Ok(Some(TreeEntry { kind, mtime, ..found }))
    }

    /// Makes it, looks at it and removes it.
    fn make(&self, kind: Kind, attributes: &Attributes) -> std::io::Result<Option<TreeEntry>> {
        let directory = &self.directory;
        let node =
            |file_type, device| rustix::fs::mknodat(directory, PROBE, file_type, Mode::RUSR | Mode::WUSR, device);
        let mut open = None;
        match kind {
            Kind::Directory => {
                rustix::fs::mkdirat(directory, PROBE, Mode::RWXU)?;
                open = Some(open_directory(directory, PROBE.as_bytes())?);
            }
            Kind::File => open = Some(create(directory, PROBE)?),
            Kind::Symlink => rustix::fs::symlinkat(PROBE, directory, PROBE)?,
            Kind::Fifo => node(FileType::Fifo, 0)?,
            Kind::Device { is_block, major, minor } => {
                let file_type = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
                match node(file_type, makedev(major, minor)) {
                    Err(Errno::PERM) => return Ok(None),
                    made => made?,
                }
            }
        }
        let subject = match &open {
            Some(file) => Subject::Open(file.as_fd()),
            None => {
                let (name, symlink) = (OsStr::new(PROBE), kind == Kind::Symlink);
                Subject::Named { directory: directory.as_fd(), name, symlink }
            }
        };
        let set = self.capabilities.set(subject, attributes, &LayerPath::root, &mut Losses::default());
        let path = format!("/proc/self/fd/{}/{PROBE}", directory.as_raw_fd());
        let found = set.map_err(std::io::Error::from).and_then(|()| entry_at(Path::new(&path)));
        let flags = if kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(directory, PROBE, flags)?;
        found.map(Some)
    }

    /// What the file system makes of a time.
    fn time(&self, time: Timestamp) -> std::io::Result<Timestamp> {
        self.capabilities.set_mtime(self.clock.as_fd(), time)?;
        let stat = rustix::fs::fstat(&self.clock)?;
        Ok(Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() })
    }
}

fn create(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    crate::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}
