//! A destination: a name in a directory whose handle is held.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::aside::HANDLES;
use super::open_path;

/// A destination that cannot be used as it is named.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// `..`, `/`.
    #[error("is not a name for a new file or directory")]
    NoName,
    /// Whoever owns a symlink decides where it leads, at any moment.
    #[error(
        "it is a symlink of another user (uid {0}), who could change where it points: use the path that it points to"
    )]
    ForeignLink(u32),
    /// In a directory where anybody can make files, another user made one of this name first.
    #[error(
        "belongs to another user (uid {0}), who created it in a world-writable directory: choose another destination"
    )]
    Foreign(u32),
    /// The kernel's word.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
}

impl Place {
    /// Finds the place of a path. A symlink there is followed if it is the caller's own, or root's, and leads
    /// somewhere.
    pub(crate) fn find(path: &Path) -> Result<Self, PlaceError> {
        let named = Self::itself(path)?;
        match statat(&named.parent, &named.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Symlink => {
                let own = rustix::process::geteuid().as_raw();
                if status.st_uid != own && status.st_uid != 0 {
                    return Err(PlaceError::ForeignLink(status.st_uid));
                }
                Self::itself(&path.canonicalize()?)
            }
            Ok(_) | Err(Errno::NOENT) => Ok(named),
            Err(error) => Err(PlaceError::Io(error.into())),
        }
    }

    /// The place of a name itself. A symlink there is not followed, neither now nor should it come later.
    pub(crate) fn itself(path: &Path) -> Result<Self, PlaceError> {
        // `DIR/.` and `..` have no name of their own in the text; what they lead to has one.
        let path = match path.file_name() {
            Some(_) => path.to_owned(),
            None => path.canonicalize()?,
        };
        let name = path.file_name().ok_or(PlaceError::NoName)?.to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = open_path(parent).map_err(std::io::Error::from)?;
        let place = Self { path, parent, name };
        place.refuse_foreign()?;
        Ok(place)
    }

    /// What the kernel's fs.protected_regular is for, whatever its setting, and for directories too.
    fn refuse_foreign(&self) -> Result<(), PlaceError> {
        let Ok(there) = statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let directory = fstat(&self.parent).map_err(std::io::Error::from)?;
        let is_shared = directory.st_mode & 0o002 != 0;
        let is_link = FileType::from_raw_mode(there.st_mode) == FileType::Symlink;
        let own = rustix::process::geteuid().as_raw();
        if is_shared && !is_link && there.st_uid != own && there.st_uid != 0 {
            return Err(PlaceError::Foreign(there.st_uid));
        }
        Ok(())
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the handle leads, with no symlink on the way.
    pub(crate) fn real_path(&self) -> PathBuf {
        let parent = std::fs::read_link(format!("{HANDLES}/{}", self.parent.as_raw_fd()));
        parent.map_or_else(|_| self.path.clone(), |parent| parent.join(&self.name))
    }

    /// The directory that it is in, to be kept.
    pub(crate) fn into_parent(self) -> OwnedFd {
        self.parent
    }

    /// The directory that it is in.
    pub(crate) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Its name there.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its name there.
    pub(crate) fn name_bytes(&self) -> &[u8] {
        self.name.as_bytes()
    }
}
