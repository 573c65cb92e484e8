//! Directory handles.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::openat;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many handles one part of the work may keep open, of which the process may have so many: a part of those at
/// most, and never more than 64.
pub(crate) fn handles(part: u64) -> usize {
    const MOST: u64 = 64;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / part.max(1)).min(MOST) as usize
}

/// Raises the limit of open files to its maximum: the usual soft limit is for programs that use `select`, and
/// an image of many layers has many directories and files open at once.
pub fn raise_handle_limit() {
    let limit = getrlimit(Resource::Nofile);
    // With fewer it is slower, no more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Opens a regular file for reading, and nothing else: a FIFO would block, a device would act. The file and its size;
/// none, if it is something else.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = super::open(path, flags, Mode::empty())?.into();
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

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
