//! A directory that is filled out of sight and then put in its place: beside it where there is none yet, inside of it
//! where there is one, so that what is renamed never crosses from one file system to another.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::openat;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, mkdirat, renameat, renameat_with, statat,
};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::core::cancel::Cancel;
use crate::fs::{Aside, Durability, Lock, Place, open_directory, publishing};
use crate::transport::store::{OpenOptions, Presence, StoreError, pour};

/// The usual modes, less what the user's umask takes.
pub(in crate::transport) const FILE_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o777;
/// How often somebody who waits looks up.
const PATIENCE: Duration = Duration::from_millis(50);
/// What becomes the place, or what is moved into it.
const TREE: &str = "new";

/// A directory in the making.
#[derive(Debug)]
pub(in crate::transport) struct Staging {
    place: Place,
    /// The place itself, if it was there when this began.
    present: Option<OwnedFd>,
    /// Removed with all in it when this is dropped.
    aside: Aside,
    /// [`TREE`] in it, by way of its handle: its name may lead elsewhere, if the directory is another user's.
    tree: PathBuf,
    durability: Durability,
    /// The most bytes of a document that is there.
    most: u64,
    /// Ends the waiting for others.
    cancel: Cancel,
}

impl Staging {
    pub(in crate::transport) fn new(path: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let place = Place::find(path).map_err(|error| StoreError::place(path, error))?;
        let io = |error: Errno| StoreError::io(path, error);
        let present = match open_directory(place.parent(), place.name_bytes()) {
            Ok(directory) => Some(directory),
            Err(Errno::NOENT) => None,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let problem = "is not a directory: remove it, or name another place".to_owned();
                return Err(StoreError::Occupied { path: path.to_owned(), problem });
            }
            Err(error) => return Err(io(error)),
        };
        let base = present.as_ref().map_or(place.parent(), |present| present.as_fd());
        let base = rustix::io::fcntl_dupfd_cloexec(base, 0).map_err(io)?;
        let aside = Aside::make(base).map_err(io)?;
        mkdirat(aside.directory(), TREE, Mode::from_raw_mode(DIRECTORY_MODE)).map_err(io)?;
        let tree = aside.path().join(TREE);
        let (durability, most, cancel) = (options.durability(), options.limits.metadata_size, options.cancel.clone());
        Ok(Self { place, present, aside, tree, durability, most, cancel })
    }

    /// The final path.
    pub(in crate::transport) fn place(&self) -> &Path {
        self.place.path()
    }

    /// Whether a file of that name and size was put here, or is in the place. One of another size is damaged: it is
    /// stored anew.
    pub(in crate::transport) fn find(&self, name: &str, wanted: Option<u64>) -> Result<Presence, StoreError> {
        self.refuse_links(name)?;
        let size = std::fs::metadata(self.tree.join(name))
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .or_else(|| self.size_in_place(name))
            .filter(|&size| wanted.is_none_or(|wanted| wanted == size));
        Ok(size.map_or(Presence::Missing, Presence::There))
    }

    fn size_in_place(&self, name: &str) -> Option<u64> {
        let status = statat(self.present.as_ref()?, name, AtFlags::empty()).ok()?;
        (FileType::from_raw_mode(status.st_mode) == FileType::RegularFile).then_some(status.st_size as u64)
    }

    /// Stores all that comes under a name; how many bytes that were.
    pub(in crate::transport) fn put(&self, name: &str, content: &mut dyn Read) -> Result<u64, StoreError> {
        let mut draft = self.draft()?;
        let size = pour(content, draft.as_file_mut(), self.place())?;
        self.keep(draft, name)?;
        Ok(size)
    }

    /// Refuses a place where a symlink leads out of it on the way to a name: what is written would be elsewhere.
    fn refuse_links(&self, name: &str) -> Result<(), StoreError> {
        let Some(present) = &self.present else { return Ok(()) };
        let within = Path::new(name).ancestors().skip(1).filter(|&path| path != Path::new(""));
        let is_link = |path: &&Path| {
            statat(present, *path, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Symlink)
        };
        match within.into_iter().find(is_link) {
            None => Ok(()),
            Some(path) => Err(StoreError::Occupied {
                path: self.place().join(path),
                problem: "is a symlink, and nothing is written through one: name another place".to_owned(),
            }),
        }
    }

    /// A file that has no name here yet.
    pub(in crate::transport) fn draft(&self) -> Result<NamedTempFile, StoreError> {
        draft_in(&self.aside, FILE_MODE).map_err(|error| StoreError::io(self.place(), error))
    }

    /// Gives a file its name.
    pub(in crate::transport) fn keep(&self, draft: NamedTempFile, name: &str) -> Result<(), StoreError> {
        let io = |error: std::io::Error| StoreError::io(self.place(), error);
        self.durability.sync(draft.as_file()).map_err(|error| io(error.into()))?;
        let path = self.tree.join(name);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).map_err(io)?;
        }
        draft.persist(&path).map(drop).map_err(|error| io(error.error))
    }

    /// Writes a small file under a name.
    pub(in crate::transport) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut draft = self.draft()?;
        std::io::Write::write_all(&mut draft, bytes).map_err(|error| StoreError::io(self.place(), error))?;
        self.keep(draft, name)
    }

    /// The names of all files so far.
    pub(in crate::transport) fn files(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in walkdir::WalkDir::new(&self.tree).sort_by_file_name() {
            let entry = entry.map_err(|error| StoreError::io(self.place(), error))?;
            if entry.file_type().is_file()
                && let Some(name) = entry.path().strip_prefix(&self.tree).ok().and_then(Path::to_str)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Renames it to its final path unless that exists; `false` if it does.
    pub(in crate::transport) fn become_place(&self) -> Result<bool, StoreError> {
        let io = |error: Errno| StoreError::io(self.place(), error);
        self.durability.sync_tree(self.aside.directory()).map_err(io)?;
        let publishing = publishing().map_err(io)?;
        let (parent, name) = (self.place.parent(), self.place.name());
        let from = self.aside.directory();
        let renamed = match renameat_with(from, TREE, parent, name, RenameFlags::NOREPLACE) {
            // A file system that knows no flags. A directory never takes the place of anything but an empty one.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(from, TREE, parent, name),
            other => other,
        };
        match renamed {
            Ok(()) => {
                drop(publishing);
                self.durability.sync(parent).map(|()| true).map_err(io)
            }
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(io(error)),
        }
    }

    /// Reads a document of the place that is there.
    pub(in crate::transport) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(present) = self.opened()? else { return Ok(None) };
        let io = |error: std::io::Error| StoreError::io(&self.place().join(name), error);
        // A named pipe would be waited for, until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&present, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io(error.into())),
        };
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(self.most.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > self.most {
            return Err(StoreError::TooLarge { path: self.place().join(name), limit: self.most });
        }
        Ok(Some(bytes))
    }

    /// Whether the place is there, and has a name in it.
    pub(in crate::transport) fn has(&self, name: &str) -> Result<bool, StoreError> {
        let present = self.opened()?;
        Ok(present.is_some_and(|present| statat(present, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()))
    }

    /// Whether there is something in the place.
    pub(in crate::transport) fn is_filled(&self) -> Result<bool, StoreError> {
        let Some(present) = self.opened()? else { return Ok(false) };
        let io = |error: Errno| StoreError::io(self.place(), error);
        for entry in crate::fs::entries(&present).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") && name != self.aside.name() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the place is there now.
    pub(in crate::transport) fn is_present(&self) -> Result<bool, StoreError> {
        self.opened().map(|present| present.is_some())
    }

    /// The place as it is now: another process may have made it since this began.
    fn opened(&self) -> Result<Option<OwnedFd>, StoreError> {
        let opened = match &self.present {
            Some(present) => rustix::io::fcntl_dupfd_cloexec(present, 0),
            None => open_directory(self.place.parent(), self.place.name_bytes()),
        };
        match opened {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::io(self.place(), error)),
        }
    }

    /// Moves files into the place that is there, in this order. What has their names there gives way.
    pub(in crate::transport) fn move_in(&self, names: &[&str]) -> Result<(), StoreError> {
        let place = self.opened()?.ok_or_else(|| StoreError::io(self.place(), Errno::NOENT))?;
        let _publishing = publishing().map_err(|error| StoreError::io(self.place(), error))?;
        for name in names {
            let io = |error: Errno| StoreError::io(&self.place().join(name), error);
            let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
            let mut at = rustix::io::fcntl_dupfd_cloexec(&place, 0).map_err(io)?;
            for part in directories.split('/').filter(|part| !part.is_empty()) {
                match mkdirat(&at, part, Mode::from_raw_mode(DIRECTORY_MODE)) {
                    Ok(()) => self.durability.sync(&at).map_err(io)?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(io(error)),
                }
                // Not a symlink: one may have been put there since it was looked for.
                at = open_directory(&at, part.as_bytes()).map_err(io)?;
            }
            renameat(self.aside.directory(), format!("{TREE}/{name}"), &at, file).map_err(io)?;
            self.durability.sync(&at).map_err(io)?;
        }
        Ok(())
    }

    /// Keeps others from changing the place as long as what this gives is held.
    pub(in crate::transport) fn lock_place(&self) -> Result<Lock, StoreError> {
        let io = |error: Errno| StoreError::io(self.place(), error);
        loop {
            let place = self.opened()?.ok_or_else(|| io(Errno::NOENT))?;
            match Lock::take(place, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if self.cancel.is_cancelled() => return Err(StoreError::Cancelled),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(PATIENCE),
                taken => return taken.map_err(io),
            }
        }
    }
}

/// A file in a directory of our own.
pub(in crate::transport) fn draft_in(aside: &Aside, mode: u32) -> std::io::Result<NamedTempFile> {
    let permissions = std::fs::Permissions::from_mode(mode);
    tempfile::Builder::new().permissions(permissions).tempfile_in(aside.path())
}
