//! A tar archive in the making, beside the one that it will replace.
//!
//! An archive is written from its start to its end and cannot be changed in the middle, so that whoever adds an image
//! writes it anew, takes over what it had, and puts it in its place by one rename. Nothing in it depends on when or by
//! whom it was written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid, fchmod, fchown};
use rustix::io::Errno;
use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use crate::core::cancel::Cancel;
use crate::fs::{Aside, Durability, Lock, Place, open_path, openat};
use crate::transport::io::staging::{FILE_MODE, draft_in};
use crate::transport::store::{OpenOptions, StoreError, pour};

const BLOCK: u64 = 512;
/// How long a name a header holds.
const NAME: usize = 100;
/// The mode of a file that nobody but its owner is to read yet.
const PRIVATE_MODE: u32 = 0o600;
/// What stands for standard output.
const STDOUT: &str = "-";
/// How often somebody who waits looks up.
const PATIENCE: Duration = Duration::from_millis(50);

/// An archive that will have a place, or go to standard output.
#[derive(Debug)]
pub(in crate::transport) struct ArchiveFile {
    path: PathBuf,
    /// None: standard output.
    place: Option<Place>,
    /// The existing archive, locked: two processes that add to it take turns.
    present: Option<Lock>,
    /// The file that is written.
    aside: Aside,
    durability: Durability,
}

impl ArchiveFile {
    /// Opens the destination, and waits for other processes that write to it.
    pub(in crate::transport) fn open(path: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let path = path.to_owned();
        if path == Path::new(STDOUT) {
            // Nothing is sent before the archive is complete, so that an error sends nothing.
            let aside = open_path(&std::env::temp_dir()).and_then(Aside::make).map_err(io_of(&std::env::temp_dir()))?;
            return Ok(Self { path, place: None, present: None, aside, durability: Durability::Unsynced });
        }
        let place = Place::find(&path).map_err(|error| StoreError::place(&path, error))?;
        let present = present(&place, &options.cancel)?;
        let aside = rustix::io::fcntl_dupfd_cloexec(place.parent(), 0).and_then(Aside::make).map_err(io_of(&path))?;
        Ok(Self { path, place: Some(place), present, aside, durability: options.durability() })
    }

    /// The final path.
    pub(in crate::transport) fn place(&self) -> &Path {
        self.place.as_ref().map_or(&self.path, Place::path)
    }

    /// Whether something is there that must be kept. An empty file is as good as none.
    pub(in crate::transport) fn has_content(&self) -> Result<bool, StoreError> {
        let Some(present) = &self.present else { return Ok(false) };
        let metadata = present.file().metadata().map_err(|error| StoreError::io(self.place(), error))?;
        Ok(metadata.len() > 0)
    }

    /// A file beside it. What was there may be for its owner alone, and so is what will be there as long as it grows.
    pub(in crate::transport) fn draft(&self) -> Result<NamedTempFile, StoreError> {
        let is_private = self.present.is_some() || self.place.is_none();
        let mode = if is_private { PRIVATE_MODE } else { FILE_MODE };
        draft_in(&self.aside, mode).map_err(|error| StoreError::io(self.place(), error))
    }

    /// Renames a finished archive to its final path.
    pub(in crate::transport) fn publish(&self, archive: Tarball) -> Result<(), StoreError> {
        let draft = archive.finish()?;
        let Some(place) = &self.place else { return send(&draft).map_err(StoreError::Stdout) };
        let replace = self.present.is_some();
        if let Some(present) = &self.present {
            keep_access(present.file(), draft.as_file()).map_err(|error| StoreError::io(self.place(), error))?;
        }
        match self.aside.publish(draft, place, replace, self.durability) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let problem = "was made by somebody else meanwhile: run this again to add to it".to_owned();
                Err(StoreError::Occupied { path: self.place().to_owned(), problem })
            }
            other => other.map_err(|error| StoreError::io(self.place(), error)),
        }
    }
}

fn io_of(path: &Path) -> impl FnOnce(Errno) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::io(&path, error)
}

/// Sends a finished archive to standard output.
fn send(draft: &NamedTempFile) -> std::io::Result<()> {
    let mut finished = draft.reopen()?;
    let mut out = std::io::stdout().lock();
    std::io::copy(&mut finished, &mut out)?;
    out.flush()
}

/// The file at a path, locked.
fn present(place: &Place, cancel: &Cancel) -> Result<Option<Lock>, StoreError> {
    let io = |error: std::io::Error| StoreError::io(place.path(), error);
    loop {
        // A named pipe would be waited for, until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(place.parent(), place.name(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io(error.into())),
        };
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            let problem = "is not a regular file: an archive is written out of sight and then put in its place";
            return Err(StoreError::Occupied { path: place.path().to_owned(), problem: problem.to_owned() });
        }
        match Lock::take(file, FlockOperation::NonBlockingLockExclusive) {
            // Else whoever had the lock before has put another file there.
            Ok(lock)
                if lock.is_at(place.parent(), place.name()).map_err(|error| StoreError::io(place.path(), error))? =>
            {
                return Ok(Some(lock));
            }
            Ok(_) => {}
            Err(Errno::WOULDBLOCK) if cancel.is_cancelled() => return Err(StoreError::Cancelled),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PATIENCE),
            Err(error) => return Err(io(error.into())),
        }
    }
}

/// Gives the new file the owner and mode of the old one.
fn keep_access(old: &File, new: &File) -> std::io::Result<()> {
    let (old, now) = (old.metadata()?, new.metadata()?);
    if (old.uid(), old.gid()) != (now.uid(), now.gid()) {
        // Only root can give files away; who else replaces another's file has it then.
        let _ = fchown(new, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())));
    }
    Ok(fchmod(new, Mode::from_raw_mode(old.mode()) & Mode::from_raw_mode(0o777))?)
}

/// Tar entries, one after the other.
#[derive(Debug)]
pub(in crate::transport) struct Tarball {
    draft: NamedTempFile,
}

impl Tarball {
    pub(in crate::transport) fn new(draft: NamedTempFile) -> Self {
        Self { draft }
    }

    /// Adds a directory.
    pub(in crate::transport) fn directory(&mut self, name: &str) -> Result<(), StoreError> {
        self.long_name(name)?;
        let header = header(EntryType::Directory, short(name), 0o755, 0)?;
        self.write(header.as_bytes())
    }

    /// Adds a file whose size is only known when all of it was read: its header is written last. How many bytes it has.
    pub(in crate::transport) fn file(&mut self, name: &str, content: &mut dyn Read) -> Result<u64, StoreError> {
        self.long_name(name)?;
        let io = |path: &Path, error| StoreError::io(path, error);
        let path = self.draft.path().to_owned();
        let file = self.draft.as_file_mut();
        let at = file.stream_position().map_err(|error| io(&path, error))?;
        file.seek(SeekFrom::Current(BLOCK as i64)).map_err(|error| io(&path, error))?;
        let size = pour(content, file, &path)?;
        file.write_all(&vec![0; padding(size) as usize]).map_err(|error| io(&path, error))?;
        let header = header(EntryType::Regular, short(name), 0o644, size)?;
        file.write_all_at(header.as_bytes(), at).map_err(|error| io(&path, error))?;
        Ok(size)
    }

    /// What GNU tar does with names that do not fit, and every reader knows: an entry of their own, with a zero at the
    /// end.
    fn long_name(&mut self, name: &str) -> Result<(), StoreError> {
        if name.len() <= NAME {
            return Ok(());
        }
        let length = name.len() as u64 + 1;
        let long = header(EntryType::GNULongName, "././@LongLink", 0o644, length)?;
        self.write(long.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&vec![0; padding(length) as usize + 1])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.draft.as_file_mut().write_all(bytes).map_err(|error| StoreError::io(self.draft.path(), error))
    }

    fn finish(mut self) -> Result<NamedTempFile, StoreError> {
        self.write(&[0; 2 * BLOCK as usize])?;
        Ok(self.draft)
    }
}

/// As much of a name as a header holds.
fn short(name: &str) -> &str {
    name.get(..NAME.min(name.len())).unwrap_or(name)
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

fn header(kind: EntryType, name: &str, mode: u32, size: u64) -> Result<Header, StoreError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).map_err(|error| StoreError::io(Path::new(name), error))?;
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
