//! Turns container images into file systems, without a container engine: overlayfs lowerdirs that the kernel mounts,
//! or one flat root file system.
//!
//! An image is a stack of tar archives. A layer says "deleted" with files named `.wh.NAME` and `.wh..wh..opq`; the
//! kernel's overlayfs says it with 0:0 character devices and an extended attribute. This crate does not translate one
//! into the other layer by layer, which cannot be done right, but replays the whole stack in memory and writes the
//! difference that each layer makes. The flat tree and the overlay mount then show the same, and both are what the
//! image specification says.
//!
//! # The way of the data
//! ```text
//! transport ──► image ──► blob ──► core::layer ──► core::stack ──► unpack ──► rootfs, lowerdirs, mount, bundle
//! where it      manifest,  verify,   tar to          what every       write each layer,
//! comes from    config     decom-    changes,        layer must       then settle whiteouts
//!                          press     record          hold             or fold flat
//! ```
//! An image that is only handed on leaves the stream after `blob`, and goes by [`copy`](mod@copy) into a
//! [`store`](transport::store).
//!
//! # Where to begin
//! - **Open an image**: [`transport::source::open`], from an archive, a layout, a registry or an engine.
//! - **Unpack it**: [`flatten`] into one root file system, [`layers`] into directories for overlayfs, [`bundle`](mod@bundle) for a
//!   container runtime, [`export`] into one file.
//! - **Mount it**: [`mount`](mod@mount); as an ordinary user inside [`userns`].
//! - **Look inside** without unpacking: [`inspect`]; **compare** two trees: [`compare`](mod@compare).
//! - **Change and move it**: [`squash`](mod@squash), [`pack`](mod@pack), [`copy`](mod@copy).
//! - **Only the rules**: [`core`](mod@core) does no I/O. [`core::stack`](mod@core::stack) takes records and tells what each layer must hold.
//!
//! What this machine's administrator has decided, in files that podman and skopeo read too, is [`configuration`]: a
//! source obeys it before it hands on an image. The library obeys what a caller names in its options; the program, what
//! is there.
//!
//! Each room uses only rooms below it. ARCHITECTURE.md lists them, floor by floor, and a test holds the code to it.
//!
//! # Features
//! | feature | brings |
//! | --- | --- |
//! | none | images in local files: unpack, mount, compare, inspect, pack, export, squash, copy; layers plain, gzip or zstd |
//! | `registry` | registries and engines: [`net`], `registries.conf`, signatures |
//! | `bundle` | bundles for runc and crun: [`bundle`](mod@bundle) |
//! | `xz`, `bzip2` | layers and archives that are compressed so |
//! | `cli` | the program; implies `registry` and `bundle` |
//!
//! All are on by default. With `default-features = false` there is no network, no TLS and no parser of arguments among the dependencies.
//! Whatever was left out is answered by an error that names its feature.
//!
//! # Example
//! Open an image, unpack it both ways, and compare two trees:
//! ```
//! use layflat::compare::{CompareOptions, compare};
//! use layflat::transport::source;
//! use layflat::{NoProgress, Options};
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

// Some of what rooms share is used only by rooms that may be left out.
#![cfg_attr(not(all(feature = "registry", feature = "bundle")), allow(dead_code, unused_imports))]

pub mod blob;
#[cfg(feature = "bundle")]
pub mod bundle;
pub mod cache;
pub mod compare;
pub mod configuration;
pub mod contents;
pub mod copy;
pub mod core;
pub mod erofs;
pub mod export;
pub mod fs;
pub mod image;
pub mod inspect;
pub mod lowerdirs;
pub mod metadata;
pub mod mount;
#[cfg(feature = "registry")]
pub mod net;
mod notes;
pub mod pack;
mod parallel;
#[cfg(feature = "registry")]
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
