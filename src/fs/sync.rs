//! Making a result survive a power loss (rule S6).
//!
//! A rename can reach the disk before the files that it shows: after a power loss they are empty. So everything is on
//! disk before the rename that publishes it, and the directory that was renamed in is on disk before success is
//! reported. Each call's error counts: on a full thin volume or a failing disk it is the only sign of lost data.

use std::os::fd::AsFd;

use rustix::fs::{FsWord, fstat, fstatfs};
use rustix::io::{Errno, retry_on_intr};

use super::elsewhere::{self, Task};

/// A file that another process syncs: writing so much may take a slow disk longer than a signal is to wait.
const LARGE: i64 = 4 << 20;
/// A tmpfs (statfs(2)). There is nothing to be written.
const TMPFS: FsWord = 0x0102_1994;

pub(super) fn file_system(directory: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::syncfs(&directory))
}

pub(super) fn file(file: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::fsync(&file))
}

fn is_on_disk(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|system| system.f_type != TMPFS)
}

/// Whether a result must survive a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On disk before it is published.
    Synced,
    /// Whenever the kernel writes it: for trees that can be made again.
    Unsynced,
}

impl Durability {
    /// As options have it, where syncing is what happens unless it is turned off.
    pub(crate) fn unless(no_sync: bool) -> Self {
        if no_sync { Self::Unsynced } else { Self::Synced }
    }

    /// Writes a whole tree to disk: all that its file system has to write.
    ///
    /// A sync of each file would wait for the disk thousands of times.
    pub(crate) fn sync_tree(self, directory: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Synced => {
                let elsewhere = is_on_disk(&directory).then(|| elsewhere::sync(Task::SyncFileSystem, &directory));
                elsewhere.flatten().unwrap_or_else(|| file_system(directory))
            }
            Self::Unsynced => Ok(()),
        }
    }

    /// Writes one file to disk, or the names of a directory.
    pub(crate) fn sync(self, open: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Synced => {
                let is_large = fstat(&open).is_ok_and(|status| status.st_size >= LARGE) && is_on_disk(&open);
                let elsewhere = is_large.then(|| elsewhere::sync(Task::SyncFile, &open));
                match elsewhere.flatten().unwrap_or_else(|| file(open)) {
                    // Some network file systems sync no directories, and have them on the server's disk at once.
                    Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
                    synced => synced,
                }
            }
            Self::Unsynced => Ok(()),
        }
    }
}
