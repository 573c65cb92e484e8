//! A directory that is filled out of sight and then put in its place: beside it where there is none yet, inside of it where there is one,
//! so that what is renamed never crosses from one file system to another.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, mkdirat, openat, renameat};
use tempfile::{NamedTempFile, TempDir};

use super::{Found, StoreError, parent, pour};

/// What the names of unfinished things begin with, and of nothing else: what is abandoned is told by it.
const PREFIX: &str = ".layflat-copy-";
/// The usual modes, less what the user's umask takes.
pub(super) const FILE_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o777;
/// How directories are opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory in the making.
#[derive(Debug)]
pub(super) struct Staging {
    place: PathBuf,
    /// Removed with all in it when this is dropped; held locked, so that others see that it is in use.
    temporary: TempDir,
    _in_use: File,
    /// What becomes the place, or what is moved into it.
    tree: PathBuf,
}

impl Staging {
    pub(super) fn new(place: &Path) -> Result<Self, StoreError> {
        let base = match std::fs::metadata(place) {
            Ok(metadata) if metadata.is_dir() => place.to_owned(),
            Ok(_) => {
                let problem = "is no directory: remove it, or name another place".to_owned();
                return Err(StoreError::Occupied { path: place.to_owned(), problem });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => parent(place),
            Err(error) => return Err(StoreError::io(place, error)),
        };
        remove_abandoned(&base);
        let permissions = std::fs::Permissions::from_mode(DIRECTORY_MODE);
        let temporary = tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempdir_in(&base);
        let temporary = temporary.map_err(|error| StoreError::io(&base, error))?;
        let in_use = directory(temporary.path())?;
        // Nobody else can hold it: it was made just now.
        rustix::fs::flock(&in_use, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| StoreError::io(temporary.path(), error))?;
        let tree = temporary.path().join("new");
        make_directory(&tree)?;
        Ok(Self { place: place.to_owned(), temporary, _in_use: in_use, tree })
    }

    /// Where it will be.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Whether a file of that name and size was put here, or is in the place. One of another size is damaged: it is stored anew.
    pub(super) fn find(&self, name: &str, wanted: Option<u64>) -> Result<Found, StoreError> {
        self.refuse_links(name)?;
        let file = |path: PathBuf| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        let found = [&self.tree, &self.place].into_iter().find_map(|directory| file(directory.join(name)));
        let size = found.map(|file| file.len()).filter(|&size| wanted.is_none_or(|wanted| wanted == size));
        Ok(size.map_or(Found::Missing, Found::There))
    }

    /// Stores all that comes under a name; how many bytes that were.
    pub(super) fn put(&self, name: &str, content: &mut dyn Read) -> Result<u64, StoreError> {
        let mut draft = self.draft()?;
        let path = draft.path().to_owned();
        let size = pour(content, draft.as_file_mut(), &path)?;
        self.keep(draft, name)?;
        Ok(size)
    }

    /// Refuses a place where a symlink leads out of it on the way to a name: what is written would be elsewhere.
    fn refuse_links(&self, name: &str) -> Result<(), StoreError> {
        let within = Path::new(name).ancestors().skip(1).filter(|&path| path != Path::new(""));
        match within.map(|path| self.place.join(path)).find(|path| path.is_symlink()) {
            None => Ok(()),
            Some(path) => Err(StoreError::Occupied {
                path,
                problem: "is a symlink, and nothing is written through one: name another place".to_owned(),
            }),
        }
    }

    /// A file that has no name here yet.
    pub(super) fn draft(&self) -> Result<NamedTempFile, StoreError> {
        draft_in(self.temporary.path(), FILE_MODE)
    }

    /// Gives a file its name.
    pub(super) fn keep(&self, draft: NamedTempFile, name: &str) -> Result<(), StoreError> {
        let path = self.tree.join(name);
        make_directory(&parent(&path))?;
        draft.persist(&path).map(drop).map_err(|error| StoreError::io(&path, error.error))
    }

    /// Writes a small file under a name.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut draft = self.draft()?;
        std::io::Write::write_all(&mut draft, bytes).map_err(|error| StoreError::io(draft.path(), error))?;
        self.keep(draft, name)
    }

    /// The names of all files so far.
    pub(super) fn files(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in walkdir::WalkDir::new(&self.tree).sort_by_file_name() {
            let entry = entry.map_err(|error| StoreError::io(&self.tree, error))?;
            if entry.file_type().is_file()
                && let Some(name) = entry.path().strip_prefix(&self.tree).ok().and_then(Path::to_str)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Puts it in its place if nothing is there; `false` if something is.
    pub(super) fn become_place(&self) -> Result<bool, StoreError> {
        match rustix::fs::renameat_with(CWD, &self.tree, CWD, &self.place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(StoreError::io(&self.place, error)),
        }
    }

    /// Moves a file into the place that is there. What has its name there gives way.
    pub(super) fn move_in(&self, name: &str) -> Result<(), StoreError> {
        let to = self.place.join(name);
        let io = |error: rustix::io::Errno| StoreError::io(&to, error);
        let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
        let mut at = directory(&self.place)?;
        for part in directories.split('/').filter(|part| !part.is_empty()) {
            match mkdirat(&at, part, Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(io(error)),
            }
            // No symlink: it may have been put there since it was looked for.
            at = openat(&at, part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(io)?.into();
        }
        renameat(CWD, self.tree.join(name), &at, file).map_err(io)
    }

    /// Keeps others from changing the place as long as what this gives is held.
    pub(super) fn lock_place(&self) -> Result<File, StoreError> {
        let lock = directory(&self.place)?;
        // Held by whoever renames a few files: it does not take long.
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| StoreError::io(&self.place, error))?;
        Ok(lock)
    }
}

/// A file without a name of its own in a directory.
pub(super) fn draft_in(directory: &Path, mode: u32) -> Result<NamedTempFile, StoreError> {
    let permissions = std::fs::Permissions::from_mode(mode);
    let draft = tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempfile_in(directory);
    draft.map_err(|error| StoreError::io(directory, error))
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).create(path).map_err(|error| StoreError::io(path, error))
}

fn directory(path: &Path) -> Result<File, StoreError> {
    let opened = rustix::fs::open(path, DIRECTORY, Mode::empty());
    opened.map(File::from).map_err(|error| StoreError::io(path, error))
}

/// Removes what a process left that was killed without mercy: nobody holds it locked.
fn remove_abandoned(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Between its making and its locking a directory is empty; what is empty may stay.
        let is_filled = || entry.path().join("new").is_dir();
        if is_ours
            && is_filled()
            && let Ok(lock) = directory(&entry.path())
            && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            crate::remove_tree(&entry.path());
        }
    }
}
