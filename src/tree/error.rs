//! Why a tree could not be read.

use crate::core::text::Printable;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A system call failed.
    #[error("cannot {action} {}", place(.root, .path))]
    Io {
        /// What was tried.
        action: String,
        /// The tree.
        root: PathBuf,
        /// The path in the tree; empty for the root.
        path: Vec<u8>,
        /// What the kernel says.
        source: io::Error,
    },
    /// Something else than a moment before.
    #[error("{} changed while it was read", place(.root, .path))]
    Changed {
        /// The tree.
        root: PathBuf,
        /// The path in the tree; empty for the root.
        path: Vec<u8>,
    },
    /// The contents of files of a tree that lies in no directory cannot be told.
    #[error("cannot read files of {}", place(.root, b""))]
    Contents {
        /// What the tree is called.
        root: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More than 2^32 - 1 names.
    #[error("{} has more than 4294967295 names, too many to read", place(.root, b""))]
    TooLarge {
        /// The tree.
        root: PathBuf,
    },
    /// Stopped by [`crate::Cancel`].
    #[error("stopped")]
    Cancelled,
}

/// A path in a tree, for a message.
fn place(root: &std::path::Path, path: &[u8]) -> String {
    let root = Printable(root.as_os_str().as_bytes());
    if path.is_empty() { root.to_string() } else { format!("{root}/{}", Printable(path)) }
}
