//! Unpacked layers on disk: the file that lists them (docs/formats.md, layflat.json), and whether they still are as
//! they were unpacked.

mod layout;
mod modified;

pub use layout::{FILE_NAME, LayerDirectory, Layout};
pub use modified::Modified;
pub(crate) use modified::{changed, modified};
