//! The work directory, and the step by which a result appears (rule S2): whole, or not at all.
//!
//! All is made beside the destination, on the same file system, in a directory that only its owner can enter, and renamed into
//! place at the end. When the value is dropped before that, nothing remains.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{open_directory, open_path, remove_tree};

/// A destination that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// Something else than a directory is there.
    #[error("destination {0:?} exists and is no directory")]
    NotADirectory(PathBuf),
    /// A directory with something in it is there.
    #[error("destination {0:?} is not empty; --replace puts the new tree in its place")]
    NotEmpty(PathBuf),
    /// A mount point with something in it cannot be exchanged.
    #[error("destination {0:?} is a mount point and not empty; it cannot be replaced, only filled when empty")]
    MountNotEmpty(PathBuf),
    /// No name for a directory.
    #[error("destination {0:?} names no directory")]
    NoName(PathBuf),
    /// The directory that it is to be in cannot be used.
    #[error("cannot make a directory in {parent:?}, where the destination belongs: {error}")]
    Parent {
        /// That directory.
        parent: PathBuf,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// The last step failed.
    #[error("cannot put the result at {path:?}: {error}")]
    Publish {
        /// The destination.
        path: PathBuf,
        /// What the kernel says.
        error: std::io::Error,
    },
}

/// A directory beside the destination, or in it where it is a mount point.
#[derive(Debug)]
pub(crate) struct Work {
    destination: PathBuf,
    /// Where the destination is, or the destination itself.
    parent: OwnedFd,
    name: OsString,
    directory: OwnedFd,
    place: Destination,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Missing,
    Empty,
    /// There, with something in it, and to be replaced.
    Full,
    /// The root of a mounted file system: filled in place, since it cannot be renamed over.
    Mount,
}

impl Work {
    /// Makes the work directory for a destination, and checks that the destination can be used.
    pub(crate) fn beside(destination: &Path, replace: bool) -> Result<Self, DestinationError> {
        let (destination, place) = look_at(destination, replace)?;
        let parent_path = match place {
            Destination::Mount => destination.as_path(),
            _ => destination.parent().ok_or_else(|| DestinationError::NoName(destination.clone()))?,
        };
        let failed = |error| DestinationError::Parent { parent: parent_path.to_owned(), error };
        let name = tempfile::Builder::new()
            .prefix(".layflat-")
            .tempdir_in(parent_path)
            .map_err(failed)?
            .keep()
            .file_name()
            .map(OsStr::to_owned)
            .ok_or_else(|| DestinationError::NoName(destination.clone()))?;
        let parent = open_path(parent_path).map_err(|error| failed(error.into()))?;
        let directory = open_directory(&parent, name.as_bytes()).map_err(|error| failed(error.into()))?;
        let work = Self { destination: destination.clone(), parent, name, directory, place };
        work.forget_inherited().map_err(|error| failed(error.into()))?;
        Ok(work)
    }

    /// A directory with the setgid bit or a default ACL passes them on to what is made in it; not to what we make.
    fn forget_inherited(&self) -> Result<(), Errno> {
        for name in ["system.posix_acl_default", "system.posix_acl_access"] {
            match rustix::fs::fremovexattr(&self.directory, name) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        match rustix::fs::fchown(&self.directory, Some(uid), Some(gid)) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        rustix::fs::fchmod(&self.directory, Mode::RWXU)
    }

    /// The work directory itself.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Where the work directory is.
    pub(crate) fn path(&self) -> PathBuf {
        match self.place {
            Destination::Mount => self.destination.join(&self.name),
            _ => self.destination.with_file_name(&self.name),
        }
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, name: &str) -> Result<OwnedFd, Errno> {
        make_directory(&self.directory, name, Mode::RWXU)
    }

    /// Puts the directory `name` of the work directory at the destination, and removes all else.
    ///
    /// `settle_root` sets the attributes of the tree's root, should that be another directory now than the one that was made.
    pub(crate) fn publish(
        self,
        name: &str,
        settle_root: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<PathBuf, DestinationError> {
        let destination = self.destination.clone();
        let failed = |error: Errno| DestinationError::Publish { path: destination.clone(), error: error.into() };
        let own = self.destination.file_name().unwrap_or_default();
        let rename = |flags| rustix::fs::renameat_with(&self.directory, name, &self.parent, own, flags);
        match self.place {
            Destination::Missing => match rename(RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => rename(RenameFlags::empty()),
                other => other,
            }
            .map_err(failed)?,
            // A rename over a directory succeeds only while that is empty.
            Destination::Empty => rename(RenameFlags::empty()).map_err(failed)?,
            Destination::Full => match rename(RenameFlags::EXCHANGE) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    rustix::fs::renameat(&self.parent, own, &self.directory, "replaced").map_err(failed)?;
                    rename(RenameFlags::empty()).or_else(|error| {
                        rustix::fs::renameat(&self.directory, "replaced", &self.parent, own)?;
                        Err(error)
                    })
                }
                other => other,
            }
            .map_err(failed)?,
            Destination::Mount => {
                let root = open_directory(&self.directory, name.as_bytes()).map_err(failed)?;
                move_all(&root, &self.parent).map_err(failed)?;
                drop(root);
                let parent = rustix::io::fcntl_dupfd_cloexec(&self.parent, 0).map_err(failed)?;
                drop(self);
                settle_root(parent.as_fd()).map_err(failed)?;
                return Ok(destination);
            }
        }
        let root = open_directory(&self.parent, own.as_bytes());
        // An ordinary user may have made a root that only its own owner's absence can enter.
        if let Ok(root) = root {
            settle_root(root.as_fd()).map_err(failed)?;
        }
        drop(self);
        Ok(destination)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Nobody is left to tell, and the error that led here is the one that matters.
        let _ = remove_tree(&self.parent, self.name.as_bytes());
    }
}

/// Makes a directory and opens it.
pub(crate) fn make_directory(parent: impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(&parent, name, mode)?;
    open_directory(parent, name.as_bytes())
}

fn look_at(destination: &Path, replace: bool) -> Result<(PathBuf, Destination), DestinationError> {
    let parent_error = |parent: &Path, error| DestinationError::Parent { parent: parent.to_owned(), error };
    let metadata = match std::fs::metadata(destination) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = destination.file_name().ok_or_else(|| DestinationError::NoName(destination.to_owned()))?;
            let parent = match destination.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = parent.canonicalize().map_err(|error| parent_error(parent, error))?;
            return match std::fs::symlink_metadata(parent.join(name)) {
                // A symlink that leads nowhere.
                Ok(_) => Err(DestinationError::NotADirectory(destination.to_owned())),
                Err(_) => Ok((parent.join(name), Destination::Missing)),
            };
        }
        Err(error) => return Err(parent_error(destination, error)),
    };
    if !metadata.is_dir() {
        return Err(DestinationError::NotADirectory(destination.to_owned()));
    }
    let whole = destination.canonicalize().map_err(|error| parent_error(destination, error))?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&whole).map_err(|error| parent_error(&whole, error))? {
        names.push(entry.map_err(|error| parent_error(&whole, error))?.file_name());
    }
    if is_mount_root(&whole) {
        return match names.as_slice() {
            [] => Ok((whole, Destination::Mount)),
            // What mkfs leaves in a new file system.
            [only] if only == "lost+found" => Ok((whole, Destination::Mount)),
            _ => Err(DestinationError::MountNotEmpty(destination.to_owned())),
        };
    }
    match (names.is_empty(), replace) {
        (true, _) => Ok((whole, Destination::Empty)),
        (false, true) => Ok((whole, Destination::Full)),
        (false, false) => Err(DestinationError::NotEmpty(destination.to_owned())),
    }
}

fn is_mount_root(path: &Path) -> bool {
    if path.parent().is_none() {
        return true;
    }
    rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Moves all that is in one directory into another; what was moved is moved back if one fails.
fn move_all(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for (index, name) in names.iter().enumerate() {
        if let Err(error) = rustix::fs::renameat(from, name.as_c_str(), to, name.as_c_str()) {
            for name in &names[..index] {
                rustix::fs::renameat(to, name.as_c_str(), from, name.as_c_str())?;
            }
            return Err(error);
        }
    }
    Ok(())
}
