//! Compares two directory trees, and lists every difference.
//!
//! Each is read into a [`Snapshot`]: names and attributes, no contents. Two snapshots are laid side by side, and only
//! where two files could still be equal are their contents read, both at once, up to the first byte that differs. That
//! is quicker than hashing, and says where.
//!
//! A tree need not lie in a directory. Of what an image shows, the contents are known by their hashes: a [`Side`] is a
//! snapshot together with what knows them, such as an [`inspect::ShownTree`](crate::inspect::ShownTree).
//!
//! What counts is what a program in the tree can observe and an image can state: the names that readdir lists, types,
//! permission bits, owners, mtimes, contents, link targets, device numbers, extended attributes, ACLs among them, and
//! which names share an inode. What a file system makes up for itself does not count: inode numbers, link counts
//! (overlayfs shows those of the lower inode, hidden names included), sizes of directories, blocks, atime and ctime.
//!
//! A tree with a [ghost](crate::tree::TreeKind::Ghost) in it is not an equal of one without.
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
mod equality;
mod links;
mod options;
mod pair;
mod side;
mod sparse;
mod statistics;
mod weight;

pub use acl::AclKind;
pub use difference::{TreeDifference, What};
pub use options::{CompareOptions, Ignore, IgnoreError};
pub use pair::differences;
pub use side::{Contents, KnownContent, Side};
pub(crate) use sparse::SparseHasher;
pub use statistics::{Statistics, StatisticsRow, Tally};

use std::path::Path;

use crate::tree::{Snapshot, TreeError};

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
pub fn compare(a: &Path, b: &Path, options: &CompareOptions) -> Result<Vec<TreeDifference>, TreeError> {
    let (a, b) = snapshots(a, b, options)?;
    differences(&a, &b, options)
}

/// Reads two trees, at the same time.
///
/// # Errors
/// A tree that cannot be read whole, or that changes while it is read.
pub fn snapshots(a: &Path, b: &Path, options: &CompareOptions) -> Result<(Snapshot, Snapshot), TreeError> {
    let take = |tree| Snapshot::take(tree, &options.snapshot);
    let (a, b) = crate::parallel::both(|| take(a), || take(b));
    Ok((a?, b?))
}
