//! Walks down and up a tree of ours with directory handles, to any depth.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Result;

use super::{handles, open_directory};

/// The handles of a directory and of those above it.
///
/// Only for trees that nobody else can change, such as those in a work directory: beyond the levels that are kept open it trusts
/// `..`.
#[derive(Debug)]
pub(crate) struct Descent {
    /// The lowest levels, deepest last; always at least one.
    open: VecDeque<OwnedFd>,
    depth: usize,
    /// Handles kept open; above that the way back up is opened again through `..`.
    most: usize,
}

impl Descent {
    /// Starts at a directory, which is depth 0.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { open: VecDeque::from([root]), depth: 0, most: handles(8).max(2) }
    }

    /// The directory that the walk is at.
    pub(crate) fn here(&self) -> BorrowedFd<'_> {
        self.open[self.open.len() - 1].as_fd()
    }

    /// Goes down into a directory that is already open.
    pub(crate) fn enter(&mut self, directory: OwnedFd) {
        self.open.push_back(directory);
        self.depth += 1;
        if self.open.len() > self.most {
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
