//! The work directory, and the step by which a directory tree appears (rules S2 and S6): whole, or not at all, and on
//! disk.
//!
//! All is made beside the destination, on the same file system, in a directory that only its owner can enter, and
//! renamed into place at the end. When the value is dropped before that, nothing remains.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{Aside, Durability, make_directory, mounts_below, open_directory, open_path};

/// A destination that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// Something else than a directory is there.
    #[error("destination {0:?} exists and is not a directory")]
    NotADirectory(PathBuf),
    /// A directory with something in it is there.
    #[error("destination {0:?} is not empty")]
    NotEmpty(PathBuf),
    /// A mount point with something in it cannot be exchanged.
    #[error("destination {0:?} is a mount point and not empty; it cannot be replaced, only filled when empty")]
    MountNotEmpty(PathBuf),
    /// Something is mounted in the tree that is to be replaced.
    #[error(
        "destination {destination:?} cannot be replaced: {mount:?} is mounted in it; unmount that first (umount {mount:?})"
    )]
    MountInside {
        /// The destination.
        destination: PathBuf,
        /// The mount point.
        mount: PathBuf,
    },
    /// Whoever owns a symlink decides where it leads, at any moment.
    #[error(
        "destination {path:?} is a symlink of another user (uid {owner}), who could lead it anywhere: name the place that it leads to"
    )]
    ForeignLink {
        /// The destination.
        path: PathBuf,
        /// Who owns the link.
        owner: u32,
    },
    /// No name for a directory.
    #[error("destination {0:?} names no directory")]
    NoName(PathBuf),
    /// The directory that it is to be in cannot be used.
    #[error("cannot create the destination in {parent:?}")]
    Parent {
        /// That directory.
        parent: PathBuf,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// The result is not on disk.
    #[error("cannot write the result for {path:?} to disk")]
    Sync {
        /// The destination.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// The last step failed.
    #[error("cannot put the result at {path:?}")]
    Publish {
        /// The destination.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
}

/// A directory beside the destination, or in it where it is a mount point.
#[derive(Debug)]
pub(crate) struct Work {
    destination: PathBuf,
    /// Where the destination is, or the destination itself.
    aside: Aside,
    place: Destination,
    durability: Durability,
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
    pub(crate) fn beside(destination: &Path, replace: bool, durability: Durability) -> Result<Self, DestinationError> {
        let (destination, place) = look_at(destination, replace)?;
        let parent_path = match place {
            Destination::Mount => destination.as_path(),
            _ => destination.parent().ok_or_else(|| DestinationError::NoName(destination.clone()))?,
        };
        let failed = |error: Errno| DestinationError::Parent { parent: parent_path.to_owned(), error: error.into() };
        let aside = open_path(parent_path).and_then(Aside::make).map_err(failed)?;
        let work = Self { destination: destination.clone(), aside, place, durability };
        work.forget_inherited().map_err(failed)?;
        Ok(work)
    }

    /// A directory with the setgid bit or a default ACL passes them on to what is made in it; not to what we make.
    fn forget_inherited(&self) -> Result<(), Errno> {
        for name in ["system.posix_acl_default", "system.posix_acl_access"] {
            match rustix::fs::fremovexattr(self.directory(), name) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        match rustix::fs::fchown(self.directory(), Some(uid), Some(gid)) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        rustix::fs::fchmod(self.directory(), Mode::RWXU)
    }

    /// The work directory itself.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.aside.directory()
    }

    /// Where the work directory is.
    pub(crate) fn path(&self) -> PathBuf {
        let name = OsStr::from_bytes(self.aside.name().to_bytes());
        match self.place {
            Destination::Mount => self.destination.join(name),
            _ => self.destination.with_file_name(name),
        }
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, name: &str) -> Result<OwnedFd, Errno> {
        make_directory(self.directory(), name, Mode::RWXU)
    }

    /// Writes the directory `name` of the work directory to disk, puts it at the destination, and removes all else.
    ///
    /// `settle_root` sets the attributes of the tree's root, should that be another directory now than the one that was
    /// made.
    pub(crate) fn publish(
        self,
        name: &str,
        settle_root: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<PathBuf, DestinationError> {
        let destination = self.destination.clone();
        let failed = |error: Errno| DestinationError::Publish { path: destination.clone(), error: error.into() };
        let unsynced = |error: Errno| DestinationError::Sync { path: destination.clone(), error: error.into() };
        let durability = self.durability;
        durability.sync_tree(self.directory()).map_err(unsynced)?;
        let own = self.destination.file_name().unwrap_or_default();
        let (directory, parent) = (self.directory(), self.aside.parent());
        let rename = |flags| rustix::fs::renameat_with(directory, name, parent, own, flags);
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
                    rustix::fs::renameat(parent, own, directory, "replaced").map_err(failed)?;
                    rename(RenameFlags::empty()).or_else(|error| {
                        rustix::fs::renameat(directory, "replaced", parent, own)?;
                        Err(error)
                    })
                }
                other => other,
            }
            .map_err(failed)?,
            Destination::Mount => {
                let root = open_directory(directory, name.as_bytes()).map_err(failed)?;
                move_all(&root, parent).map_err(failed)?;
                let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(failed)?;
                // Its removal changes the time of the root that it is in.
                drop(self);
                settle_root(parent.as_fd()).map_err(failed)?;
                durability.sync_tree(&parent).map_err(unsynced)?;
                return Ok(destination);
            }
        }
        // An unprivileged user may have given the root a mode that forbids reopening it.
        if let Ok(root) = open_directory(parent, own.as_bytes()) {
            settle_root(root.as_fd()).map_err(failed)?;
            durability.sync(&root).map_err(unsynced)?;
        }
        // Before the old tree is removed: a power loss must find one of the two.
        durability.sync(parent).map_err(unsynced)?;
        drop(self);
        Ok(destination)
    }
}

fn look_at(destination: &Path, replace: bool) -> Result<(PathBuf, Destination), DestinationError> {
    let parent_error = |parent: &Path, error| DestinationError::Parent { parent: parent.to_owned(), error };
    refuse_foreign_link(destination)?;
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
        (false, true) => match mounts_below(&whole).map_err(|error| parent_error(&whole, error))? {
            // The old tree is removed, and what is mounted in it is not part of it.
            Some(mount) => Err(DestinationError::MountInside { destination: destination.to_owned(), mount }),
            None => Ok((whole, Destination::Full)),
        },
        (false, false) => Err(DestinationError::NotEmpty(destination.to_owned())),
    }
}

/// As the kernel does in shared directories, where fs.protected_symlinks is set.
fn refuse_foreign_link(destination: &Path) -> Result<(), DestinationError> {
    let own = rustix::process::geteuid().as_raw();
    match destination.symlink_metadata() {
        Ok(link) if link.is_symlink() && link.uid() != own && link.uid() != 0 => {
            Err(DestinationError::ForeignLink { path: destination.to_owned(), owner: link.uid() })
        }
        _ => Ok(()),
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
fn move_all(from: &OwnedFd, to: BorrowedFd<'_>) -> Result<(), Errno> {
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
