//! The image specification as pure functions: no I/O, and no use of the other rooms.
//!
//! [`tar`] reads archives from bytes, [`layer`] reads changes from archives, and [`stack`] replays changes and tells
//! what each layer's directory must hold. The rest is what these and all others speak of: digests, names, limits.

pub mod cancel;
pub mod chain;
pub(crate) mod crc32c;
pub mod digest;
pub mod filter;
pub mod idmap;
pub mod layer;
pub mod limits;
pub mod overlayfs;
pub mod record;
pub mod reference;
pub mod stack;
pub mod tar;
pub mod text;
pub(crate) mod verity;
