//! Where the contents of a layer's files lie, so that a file system can show them without their being written once more, file by file.
//!
//! A layer that is compressed, or that others could change, is read once into a *content file*: the contents of its files alone, one behind
//! the other, each in whole blocks of 512 bytes, holes left out. It depends on the uncompressed layer alone, so it is kept under the DiffID,
//! whatever lies below, and all images share it. A plain layer may also be used [in place](in_place): then its contents lie where the user's
//! own archive has them, and only what cannot be pointed at is copied.

mod blocks;
pub mod in_place;
mod index;
mod locate;
mod pieces;
#[cfg(feature = "containerd")]
mod single;
mod store;
mod write;

pub use pieces::{BLOCK, Lies, Piece, Pieces};
#[cfg(feature = "containerd")]
pub(crate) use single::{keep_layer, kept_layer};
pub use store::{Contents, KeptContents, KeptLayer, contents};
