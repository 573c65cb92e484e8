//! Directory handles.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::openat;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Result;

/// Opens a directory in a directory, never through a symlink.
pub(crate) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Opens a directory that the caller names; here symlinks are the caller's own and are followed.
pub(crate) fn open_path(path: &std::path::Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory and opens it.
pub(crate) fn make_directory(parent: impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd> {
    rustix::fs::mkdirat(&parent, name, mode)?;
    open_directory(parent, name.as_bytes())
}
