//! One of two trees that are compared: a directory, whose files can be read, or what an image shows, whose files are
//! known without being read.

use std::error::Error;
use std::fmt;

use crate::tree::Snapshot;

/// A tree, and where the contents of its files are known.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Names and attributes.
    pub tree: &'a Snapshot,
    /// Where the contents are known; none of a directory, where they are read.
    pub contents: Option<&'a dyn Contents>,
}

impl<'a> From<&'a Snapshot> for Side<'a> {
    fn from(tree: &'a Snapshot) -> Self {
        Self { tree, contents: None }
    }
}

/// What a content is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownContent {
    /// Contents with the same hash are the same.
    pub hash: [u8; 32],
    /// Whether it is the SHA-256 of all bytes, holes read as zeros. If it is not, another hash says nothing.
    pub is_sha256: bool,
}

/// The contents of the files of a tree that lies in no directory, by the numbers of their inodes there.
pub trait Contents: Sync {
    /// What a file's content is known by, where that is known without reading it.
    fn known(&self, inode: u64) -> Option<KnownContent>;

    /// For contents of which too little is known: their hashes by which it does not matter what is a hole, in order.
    ///
    /// # Errors
    /// Contents that cannot be read.
    fn sparse_hashes(&self, inodes: &[u64]) -> Result<Vec<[u8; 32]>, Box<dyn Error + Send + Sync>>;
}

impl fmt::Debug for dyn Contents + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Contents")
    }
}
