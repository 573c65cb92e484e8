//! Unpacked layers on disk: the file that lists them (docs/formats.md, layflat.json), and whether they still are as
//! they were unpacked.

mod damage;
mod erofs;
mod error;
mod file;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod layout;
mod modified;
mod read;
mod seal;

pub(crate) use damage::{damage, describe, erofs_damage, file_damage};
pub use erofs::{ContentDevice, ErofsLayout, Metadata};
pub use error::LayoutError;
pub use file::{Check, FileSeal, Stamp};
pub(crate) use file::{Checked, MeasuredFile};
pub use layout::{FILE_NAME, LayerDirectory, Layout};
pub use modified::Modified;
pub(crate) use modified::{changed, modified};
pub use read::form_of;
pub(crate) use read::{open, read, read_erofs, read_layout};
pub(crate) use seal::{Depth, Seal};
