//! A directory tree, read into memory: names and attributes, no contents.
//!
//! A tree is a directory: one that layflat unpacked, a mount, or any other. Comparing reads two of them, packing one and
//! what lies below it, and an export the rootfs that it makes a file system of.
//!
//! A name that readdir lists and lstat does not find is a [`TreeKind::Ghost`]. Overlayfs shows them where a whiteout lies
//! in a directory that merges with nothing.
//!
//! ```
//! use layflat::tree::{TreeKind, Snapshot, SnapshotOptions};
//!
//! let place = tempfile::tempdir()?;
//! std::fs::write(place.path().join("file"), "one")?;
//!
//! let tree = Snapshot::take(place.path(), &SnapshotOptions::default())?;
//! assert_eq!(tree.get(b"file").map(|entry| &entry.kind), Some(&TreeKind::File { size: 3 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod options;
mod snapshot;
mod walk;

pub use error::TreeError;
pub use options::SnapshotOptions;
pub use snapshot::{KindName, Snapshot, TreeEntry, TreeKind};
pub(crate) use snapshot::{NodeId, ROOT};
pub(crate) use walk::entry_at;
