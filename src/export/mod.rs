//! Exports the flat tree as one file: a tar archive, or a file system image.
//!
//! The archive and the EROFS image are written from the replayed stack, and no tree is unpacked for them: the layers are read
//! once, contents are kept in files without a name, and come out in the order of their paths. A compressed EROFS image and a
//! SquashFS image are made by the tools of their file systems, from the flat form.

mod archive;
mod entries;
mod erofs;
mod filesystem;
mod tool;

pub use archive::flat_archive;
pub(crate) use entries::{Spooled, Whiteouts, needed_contents, write_entries};
pub use erofs::flat_erofs;
pub use filesystem::{ErofsCompression, Filesystem, flat_filesystem};
