//! Unpacked layers on disk: the file that lists them (docs/formats.md, layflat.json), and whether they still are as
//! they were unpacked.

mod damage;
mod erofs;
mod layout;
mod modified;

pub(crate) use damage::damage;
pub use erofs::{ContentDevice, ErofsLayout, Identity, Metadata, Stamp};
pub use layout::{FILE_NAME, LayerDirectory, Layout};
pub use modified::Modified;
pub(crate) use modified::{changed, modified};
