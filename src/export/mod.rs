//! Exports the flat tree as one file: a tar archive, or a file system image.
//!
//! The archive is written from the replayed stack, and no tree is unpacked for it: the layers are read once, contents
//! are kept in a file without a name, and come out in the order of their paths. An image is made by the tools of its
//! file system, from the flat form.

mod archive;
mod entries;
mod filesystem;
mod tool;

pub use archive::flat_archive;
pub(crate) use entries::{Spooled, Whiteouts, needed_contents, write_entries};
pub use filesystem::{Filesystem, flat_filesystem};
