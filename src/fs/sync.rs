//! Making a result survive a power loss (rule S6).
//!
//! A rename can reach the disk before the files that it shows: after a power loss they are empty. So everything is on
//! disk before the rename that publishes it, and the directory that was renamed in is on disk before success is
//! reported. Each call's error counts: on a full thin volume or a failing disk it is the only sign of lost data.

use std::os::fd::AsFd;

use rustix::io::{Errno, retry_on_intr};

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
            Self::Synced => retry_on_intr(|| rustix::fs::syncfs(&directory)),
            Self::Unsynced => Ok(()),
        }
    }

    /// Writes one file to disk, or the names of a directory.
    pub(crate) fn sync(self, file: impl AsFd) -> Result<(), Errno> {
        match self {
            // Some network file systems sync no directories, and have them on the server's disk at once.
            Self::Synced => match retry_on_intr(|| rustix::fs::fsync(&file)) {
                Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
                other => other,
            },
            Self::Unsynced => Ok(()),
        }
    }
}
