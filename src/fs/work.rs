//! The work directory, and the step by which a directory tree appears (rules S2 and S6): whole, or not at all, and on
//! disk.
//!
//! All is made beside the destination, on the same file system, in a directory that only its owner can enter, and
//! renamed into place at the end. When the value is dropped before that, nothing remains.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, RenameFlags, renameat};
use rustix::io::Errno;

use super::{
    Aside, Durability, Place, PlaceError, is_mount_root, make_directory, mounts_below, open_directory, publishing,
};

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
    /// A place that cannot be used as it is named.
    #[error("destination {path:?} {problem}")]
    Unusable {
        /// The destination.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
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
    /// The last step failed, and what was there could not be put back.
    #[error("cannot put the result at {path:?}, nor put back what was there, which is kept as {kept:?}")]
    NotPutBack {
        /// The destination.
        path: PathBuf,
        /// Where the old tree is now.
        kept: PathBuf,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
}

/// The name in the work directory of a tree that is to be replaced, where the two cannot be exchanged.
const REPLACED: &str = "replaced";

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
    /// Makes the work directory for a destination, and checks that the destination can be used. A symlink there is
    /// followed.
    pub(crate) fn beside(destination: &Path, replace: bool, durability: Durability) -> Result<Self, DestinationError> {
        Self::at(destination, Place::find(destination), replace, durability)
    }

    /// The same for a destination whose name leads nowhere else: a symlink there is no directory.
    pub(crate) fn beside_itself(
        destination: &Path,
        replace: bool,
        durability: Durability,
    ) -> Result<Self, DestinationError> {
        Self::at(destination, Place::itself(destination), replace, durability)
    }

    fn at(
        destination: &Path,
        place: Result<Place, PlaceError>,
        replace: bool,
        durability: Durability,
    ) -> Result<Self, DestinationError> {
        let place = place.map_err(|error| unfound(destination, error))?;
        let Found { destination, holder, place } = look_at(destination, place, replace)?;
        let failed = |error: Errno| {
            let parent = match place {
                Destination::Mount => &destination,
                _ => destination.parent().unwrap_or(&destination),
            };
            DestinationError::Parent { parent: parent.to_owned(), error: error.into() }
        };
        let aside = Aside::make(holder).map_err(failed)?;
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
        // The root's attributes are part of the result.
        let publishing = publishing().map_err(failed)?;
        let own = self.destination.file_name().unwrap_or_default();
        let (directory, parent) = (self.directory(), self.aside.parent());
        let rename = |flags| rustix::fs::renameat_with(directory, name, parent, own, flags);
        // For file systems that know no flags.
        let plain = || renameat(directory, name, parent, own);
        match self.place {
            Destination::Missing => match rename(RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => plain(),
                other => other,
            }
            .map_err(failed)?,
            // A rename over a directory succeeds only while that is empty.
            Destination::Empty => plain().map_err(failed)?,
            Destination::Full => match rename(RenameFlags::EXCHANGE) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    renameat(parent, own, directory, REPLACED).map_err(failed)?;
                    if let Err(error) = plain() {
                        if renameat(directory, REPLACED, parent, own).is_ok() {
                            return Err(failed(error));
                        }
                        let kept = self.keep_replaced();
                        return Err(DestinationError::NotPutBack { path: destination, kept, error: error.into() });
                    }
                }
                other => other.map_err(failed)?,
            },
            Destination::Mount => {
                let root = open_directory(directory, name.as_bytes()).map_err(failed)?;
                move_all(&root, parent).map_err(failed)?;
                let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(failed)?;
                // Its removal changes the time of the root that it is in.
                drop(self);
                settle_root(parent.as_fd()).map_err(failed)?;
                drop(publishing);
                durability.sync_tree(&parent).map_err(unsynced)?;
                return Ok(destination);
            }
        }
        // An unprivileged user may have given the root a mode that forbids reopening it.
        let root = open_directory(parent, own.as_bytes());
        if let Ok(root) = &root {
            settle_root(root.as_fd()).map_err(failed)?;
        }
        drop(publishing);
        if let Ok(root) = &root {
            durability.sync(root).map_err(unsynced)?;
        }
        // Before the old tree is removed: a power loss must find one of the two.
        durability.sync(parent).map_err(unsynced)?;
        drop(self);
        Ok(destination)
    }

    /// Keeps the old tree, which cannot go back to its name, from being removed with all else; where it is now.
    fn keep_replaced(self) -> PathBuf {
        // Beside the work directory, by a name that no run takes for what a killed one left.
        let name = format!("{}-{REPLACED}", self.aside.name().to_string_lossy());
        if renameat(self.directory(), REPLACED, self.aside.parent(), &name).is_ok() {
            return self.destination.with_file_name(name);
        }
        // So the work directory stays.
        self.aside.keep();
        self.path().join(REPLACED)
    }
}

/// A destination as it was found.
struct Found {
    /// Its path, with no symlink on the way, for messages and for tools.
    destination: PathBuf,
    /// The directory that the work directory is to be in.
    holder: OwnedFd,
    place: Destination,
}

/// Looks at a destination by the handle of the directory that it is in, which is held from the start.
fn look_at(destination: &Path, place: Place, replace: bool) -> Result<Found, DestinationError> {
    let path = place.real_path();
    let failed = |error: Errno| DestinationError::Parent { parent: path.clone(), error: error.into() };
    let directory = match open_directory(place.parent(), place.name_bytes()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => {
            return Ok(Found { destination: path, holder: place.into_parent(), place: Destination::Missing });
        }
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(DestinationError::NotADirectory(destination.to_owned())),
        Err(error) => return Err(failed(error)),
    };
    let names = names_in(&directory).map_err(failed)?;
    if is_mount_root(&directory) {
        return match names.as_slice() {
            [] => Ok(Found { destination: path, holder: directory, place: Destination::Mount }),
            // What mkfs leaves in a new file system.
            [only] if only.as_c_str() == c"lost+found" => {
                Ok(Found { destination: path, holder: directory, place: Destination::Mount })
            }
            _ => Err(DestinationError::MountNotEmpty(destination.to_owned())),
        };
    }
    let found = |place: Place, there| Found { destination: path.clone(), holder: place.into_parent(), place: there };
    match (names.is_empty(), replace) {
        (true, _) => Ok(found(place, Destination::Empty)),
        (false, false) => Err(DestinationError::NotEmpty(destination.to_owned())),
        (false, true) => {
            let mounts = mounts_below(&path);
            match mounts.map_err(|error| DestinationError::Parent { parent: path.clone(), error })? {
                // The old tree is removed, and what is mounted in it is not part of it.
                Some(mount) => Err(DestinationError::MountInside { destination: destination.to_owned(), mount }),
                None => Ok(found(place, Destination::Full)),
            }
        }
    }
}

/// Why a destination has no place.
fn unfound(destination: &Path, error: PlaceError) -> DestinationError {
    let path = destination.to_owned();
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match error {
        // `/` has no name, and is a mount point with something in it.
        PlaceError::NoName => DestinationError::MountNotEmpty(path),
        PlaceError::Io(error) if is_missing(&error) && path.file_name().is_none() => DestinationError::NoName(path),
        // A symlink that leads nowhere.
        PlaceError::Io(error) if is_missing(&error) && path.is_symlink() => DestinationError::NotADirectory(path),
        PlaceError::Io(error) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            DestinationError::Parent { parent: parent.to_owned(), error }
        }
        problem => DestinationError::Unusable { path, problem: problem.to_string() },
    }
}

/// What is in a directory.
fn names_in(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in super::entries(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Moves all that is in one directory into another; what was moved is moved back if one fails.
fn move_all(from: &OwnedFd, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let names = names_in(from)?;
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
