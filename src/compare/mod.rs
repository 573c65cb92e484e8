//! Compares two directory trees, and lists every difference.
//!
//! A tree is a directory: one that layflat unpacked, a mount, or any other. It is read into a [`Snapshot`]: names and
//! attributes, no contents. Two snapshots are laid side by side, and only where two files could still be equal are
//! their contents read, both at once, up to the first byte that differs. That is quicker than hashing, and says where.
//!
//! What counts is what a program in the tree can observe and an image can state: the names that readdir lists, types,
//! permission bits, owners, mtimes, contents, link targets, device numbers, extended attributes, ACLs among them, and
//! which names share an inode. What a file system makes up for itself does not count: inode numbers, link counts
//! (overlayfs shows those of the lower inode, hidden names included), sizes of directories, blocks, atime and ctime.
//!
//! A name that readdir lists and lstat does not find is a [`TreeKind::Ghost`]. Overlayfs shows them where a whiteout
//! lies in a directory that merges with nothing; a tree with a ghost in it is not an equal of one without.
//!
//! ```
//! use layflat::compare::{CompareOptions, compare};
//!
//! let (a, b) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! for (tree, text) in [(&a, "one"), (&b, "two")] {
//!     std::fs::write(tree.path().join("file"), text)?;
//!     std::fs::create_dir(tree.path().join("directory"))?;
//! }
//! std::fs::write(b.path().join("directory/more"), "")?;
//!
//! let options = CompareOptions { ignore: "mtime".parse()?, ..CompareOptions::default() };
//! let differences = compare(a.path(), b.path(), &options)?;
//! let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
//! assert_eq!(lines, [
//!     "directory/more: only in B (file)",
//!     "file: content: differs from byte 0 on",
//! ]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acl;
mod content;
mod difference;
mod error;
mod links;
mod options;
mod pair;
mod snapshot;
mod walk;

pub use acl::AclKind;
pub use difference::{TreeDifference, What};
pub use error::CompareError;
pub use options::{CompareOptions, Ignore, IgnoreError, SnapshotOptions};
pub use pair::differences;
pub use snapshot::{KindName, Snapshot, TreeEntry, TreeKind};
pub(crate) use snapshot::{NodeId, ROOT};

use std::path::Path;

/// Reads two trees, at the same time, and lists every difference, sorted by path: a directory before what it holds,
/// siblings by their bytes.
///
/// ```
/// use layflat::compare::CompareOptions;
///
/// let (a, b) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// std::fs::write(b.path().join("new"), "only in b")?;
/// let differences = layflat::compare(a.path(), b.path(), &CompareOptions::default())?;
/// assert!(differences.iter().any(|difference| difference.path.as_bytes() == b"new"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A tree that cannot be read whole, or that changes while it is read.
pub fn compare(a: &Path, b: &Path, options: &CompareOptions) -> Result<Vec<TreeDifference>, CompareError> {
    let take = |tree| Snapshot::take(tree, &options.snapshot);
    let (a, b) = crate::parallel::both(|| take(a), || take(b));
    differences(&a?, &b?, options)
}
