//! EROFS images of what an image shows, over the files that its contents lie in: what the kernel mounts without anything being unpacked.
//!
//! ```text
//! layers ─┬─ content files in the cache, one a layer ─┐
//!         └─ the user's archive, in place ────────────┤ pieces
//! records ── Stack::replay ── erofs::Plan ◄───────────┘
//!                                 └─► image files + layflat.json, in the cache or in a directory of the user's
//! ```
//!
//! The result is a directory with a [`layflat.json`](crate::lowerdirs::ErofsLayout), which [`mount_layout`](crate::mount::mount_layout()) mounts.

mod cached;
mod choose;
mod error;
mod images;
mod layers;
mod probe;
mod shared;
#[cfg(feature = "containerd")]
mod single;
mod sources;

pub use cached::{KeptImages, cached};
pub use choose::{Backend, How, Ready, mountable, ready};
pub use error::MetadataError;
pub use images::Stacking;
pub use layers::{LayersReport, layers};
pub use probe::probe;
#[cfg(feature = "containerd")]
pub(crate) use probe::probe_files;
#[cfg(feature = "containerd")]
pub(crate) use single::{Beneath, LayerImage, Lowers, layer_image, whole_image};

/// What is checked before a mount appears (rule C4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Every byte, each time: of an archive in place, of content files, and of EROFS images.
    Full,
    /// Every byte, once: what is recognised by device, inode, size, modification and change time is believed.
    Cached,
    /// As [`Verify::Cached`], but of an archive in place only the headers are read.
    Nothing,
}
