//! How a tree is read.

use crate::core::cancel::Cancel;

/// How a tree is read.
#[derive(Debug, Clone, Default)]
pub struct SnapshotOptions {
    /// Stay on the root's file system: of a mount point below it, only the directory itself is read.
    /// Otherwise what is mounted in the tree belongs to the tree.
    pub one_file_system: bool,
    /// Stops the reading.
    pub cancel: Cancel,
}
