//! Turns container images into file systems, without a container engine: overlayfs lowerdirs that the kernel mounts,
//! or one flat root file system.
//!
//! An image is a stack of tar archives. A layer says "deleted" with files named `.wh.NAME` and `.wh..wh..opq`; the
//! kernel's overlayfs says it with 0:0 character devices and an extended attribute. This crate does not translate one
//! into the other layer by layer, which cannot be done right, but replays the whole stack in memory and lays down the
//! difference that each layer makes. The flat tree and the overlay mount then show the same, and both are what the
//! image specification says.
//!
//! # The way of the data
//! ```text
//! source ──► image ──► blob ──► layer ──► stage ──► stack ──► form ──► rootfs, lowerdirs, mount, bundle
//! where it    manifest,  verify,   tar to     write each  decide what    finish:
//! comes from  config,    decom-    changes,   layer into  every layer    overlay marks
//!             platform   press     record     its own dir must hold      or fold flat
//! ```
//! An image that is only handed on leaves the stream after `blob`:
//! ```text
//! source ──► image ──► blob ──► copy ──► store
//!                               which bytes stay, which     layouts, archives,
//!                               are compressed anew         registries, engines
//! ```
//! Beside the forms, [`product`] makes flat archives and images of file systems, [`rewrite`](mod@rewrite) makes images of images, which are
//! handed on as any other, and [`pack`](mod@pack) is the way
//! back from a directory to a layer. Who only wants to know what is in an image needs neither stage nor form: [`index`] keeps what a layer
//! holds besides contents, and [`inside`] answers from that and the stack.
//!
//! What this machine's administrator has decided, in files that podman and skopeo read too, is [`configuration`]: a source obeys it before it hands
//! on an image. The library obeys what a caller names in its options; the program, what is there.
//!
//! Each module only knows those before it, and [`store`] knows nothing of [`copy`](mod@copy). [`archive`] (the tar format) and [`stack`]
//! do no I/O at all.
//!
//! # Example
//! Open an image, lay it down in both forms, and compare two trees:
//! ```
//! use layflat::compare::{CompareOptions, compare};
//! use layflat::{NoProgress, Options, source};
//!
//! let image = source::open(&"fixtures/four-layers.tar".parse()?, &source::OpenOptions::default())?;
//! let place = tempfile::tempdir()?;
//! let (rootfs, overlay) = (place.path().join("rootfs"), place.path().join("overlay"));
//!
//! let report = layflat::flatten(&image, &rootfs, &Options::default(), &NoProgress)?;
//! assert_eq!(report.layers.len(), 4);
//! assert_eq!(std::fs::read(rootfs.join("b"))?, b"this is b\n");
//!
//! layflat::layers(&image, &overlay, &Options::default(), &NoProgress)?;
//! assert!(overlay.join("layflat.json").exists());
//! // As root: layflat::mount::mount_layout(&overlay, target, Default::default())?;
//!
//! assert!(compare(&rootfs, &rootfs, &CompareOptions::default())?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blob;
pub mod bundle;
pub mod cache;
pub mod compare;
pub mod configuration;
pub mod copy;
pub mod core;
pub mod export;
pub mod fs;
pub mod image;
pub mod inspect;
pub mod lowerdirs;
pub mod mount;
pub mod net;
mod notes;
pub mod pack;
mod parallel;
mod sigstore;
pub mod squash;
pub mod transport;
pub mod unpack;
pub mod userns;

pub use self::core::cancel::Cancel;
pub use self::core::limits::Limits;
pub use self::core::overlayfs::XattrNamespace;
pub use fs::DestinationError;
pub use notes::Notes;
pub use unpack::{Error, WhichLayer};
pub use unpack::{LayerReport, Loss, LossKind, NoProgress, Progress, Report, Seconds};
pub use unpack::{OVERRIDE_STAT, Options, Owners};
pub use unpack::{flatten, layers};

/// Removes a directory tree, however deep it is; that it is not there is fine.
///
/// For temporary trees that hold what an image made: `std::fs::remove_dir_all` gives up on deep ones.
pub fn remove_tree(path: &std::path::Path) {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(parent) = fs::open_path(parent)
    {
        // What cannot be removed is for the user to see, who can remove it.
        let _ = fs::remove_tree(parent, std::os::unix::ffi::OsStrExt::as_bytes(name));
    }
}
