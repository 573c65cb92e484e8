//! Walking down and up a tree of our own by directory handles, however deep it is.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Result;

/// Handles kept open; above that the way back up is opened again through `..`.
const MOST_OPEN: usize = 64;

/// Opens a directory in a directory, never through a symlink.
pub(crate) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Opens a directory that the caller names; here symlinks are the caller's own and are followed.
pub(crate) fn open_path(path: &std::path::Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The handles of a directory and of those above it.
///
/// Only for trees that nobody else changes: beyond [`MOST_OPEN`] levels it trusts `..`.
#[derive(Debug)]
pub(crate) struct Descent {
    /// The lowest levels, deepest last; always at least one.
    open: VecDeque<OwnedFd>,
    depth: usize,
}

impl Descent {
    /// Starts at a directory, which is depth 0.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { open: VecDeque::from([root]), depth: 0 }
    }

    /// The directory that the walk is at.
    pub(crate) fn here(&self) -> BorrowedFd<'_> {
        self.open[self.open.len() - 1].as_fd()
    }

    /// Goes down into a directory that is already open.
    pub(crate) fn enter(&mut self, directory: OwnedFd) {
        self.open.push_back(directory);
        self.depth += 1;
        if self.open.len() > MOST_OPEN {
            self.open.pop_front();
        }
    }

    /// Goes back up, and returns the handle of the directory that was left.
    pub(crate) fn leave(&mut self) -> Result<OwnedFd> {
        debug_assert!(self.depth > 0, "the walk cannot leave the directory that it started in");
        if self.open.len() == 1 {
            let parent = open_directory(self.here(), b"..")?;
            self.open.push_front(parent);
        }
        self.depth -= 1;
        self.open.pop_back().ok_or(rustix::io::Errno::BADF)
    }
}
