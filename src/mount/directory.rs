//! Directories of a mount, opened as soon as they are named.

use super::error::MountError;
use super::options::LONGEST_STRING;
use crate::fs::is_mount_root;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A layer of a mount.
#[derive(Debug)]
pub struct LowerDirectory(Directory);

impl LowerDirectory {
    /// Opens a layer by its path; symbolic links on the way are followed.
    ///
    /// # Errors
    /// [`MountError::Directory`].
    pub fn open(path: &Path) -> Result<Self, MountError> {
        Directory::open(path, "the layer").map(Self)
    }

    /// Opens a layer that lies below a directory. No symbolic link is followed.
    pub(super) fn open_beneath(directory: BorrowedFd<'_>, base: &Path, name: &str) -> Result<Self, MountError> {
        Self::open_within(directory, base.join(name), name, ResolveFlags::BENEATH)
    }

    /// Opens a layer that lies beside a directory of a cache. No symbolic link is followed.
    pub(super) fn open_shared(directory: BorrowedFd<'_>, base: &Path, name: &str) -> Result<Self, MountError> {
        // What is mounted is known by its path, which a `..` would hide.
        let whole = base.canonicalize().unwrap_or_else(|_| base.to_owned());
        let cache = whole.parent().and_then(Path::parent).unwrap_or(&whole);
        Self::open_within(directory, cache.join(name.trim_start_matches("../")), name, ResolveFlags::empty())
    }

    fn open_within(
        directory: BorrowedFd<'_>,
        path: PathBuf,
        name: &str,
        within: ResolveFlags,
    ) -> Result<Self, MountError> {
        let resolve = within | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match crate::fs::openat2(directory, name, FLAGS, Mode::empty(), resolve) {
            Ok(fd) => Ok(Self(Directory { path, fd, is_nowhere: false })),
            Err(errno) => Err(MountError::Directory { action: "open", what: "the layer", path, source: errno.into() }),
        }
    }

    /// A mount that is nowhere, by its descriptor; `name` is what messages call it.
    pub(super) fn of_mount(mount: OwnedFd, name: &Path) -> Self {
        Self(Directory { path: name.to_owned(), fd: mount, is_nowhere: true })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.0
    }
}

/// Whether something is mounted on a directory; one that is not there has nothing on it.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    Directory::open(path, "the directory").is_ok_and(|directory| directory.is_mount_point())
}

/// An open directory and the path that led to it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    /// It is the root of a mount that no path leads to.
    is_nowhere: bool,
}

impl Directory {
    pub(super) fn open(path: &Path, what: &'static str) -> Result<Self, MountError> {
        match crate::fs::openat(CWD, path, FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.to_owned(), fd, is_nowhere: false }),
            Err(errno) => {
                Err(MountError::Directory { action: "open", what, path: path.to_owned(), source: errno.into() })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is mounted there.
    pub(super) fn is_mount_point(&self) -> bool {
        is_mount_root(&self.fd)
    }

    /// A name of the directory that holds whatever happens to its path, for this process.
    pub(super) fn descriptor_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Whether this is another directory or lies below it, as far as paths tell: a bind mount hides it.
    pub(super) fn lies_in(&self, other: &Self) -> bool {
        let real = |directory: &Self| std::fs::read_link(directory.descriptor_path());
        // The kernel calls the root of such a mount `/`.
        !other.is_nowhere && matches!((real(self), real(other)), (Ok(inner), Ok(outer)) if inner.starts_with(&outer))
    }

    /// A name that tells people more than a number, where fsconfig(2) takes it.
    pub(super) fn string(&self) -> Vec<u8> {
        match std::path::absolute(&self.path) {
            Ok(path) if path.as_os_str().len() <= LONGEST_STRING => path.as_os_str().as_bytes().to_vec(),
            _ => self.descriptor_path().into_bytes(),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
