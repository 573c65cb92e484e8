//! Turns container images into file systems, without a container engine: overlayfs lowerdirs that the kernel mounts,
//! or one flat root file system.
//!
//! An image is a stack of tar archives. A layer deletes files of lower layers with whiteouts: empty files named
//! `.wh.NAME` and `.wh..wh..opq`. The kernel's overlayfs uses 0:0 character devices and an extended attribute instead.
//! Translating one into the other layer by layer cannot be done right. So this crate replays the whole stack in memory,
//! and writes for each layer the difference that it makes. The flat tree and the overlay mount then show the same
//! files, and both are what the image specification defines.
//!
//! # Data flow
//! ```text
//! transport ──► image ──► blob ──► core::layer ──► core::stack ──► unpack ──► rootfs, lowerdirs, mount, bundle
//! where it      manifest,  verify,   tar to          what every       write each layer,
//! comes from    config     decom-    changes,        layer must       then settle whiteouts
//!                          press     record          hold             or fold flat
//! ```
//! An image that is only copied takes another way after `blob`: [`copy`](mod@copy) writes its blobs into a
//! [`store`](transport::store).
//!
//! # Where to begin
//! | task | function | room |
//! | --- | --- | --- |
//! | open an image: archive, layout, registry, engine | [`open`] | [`transport`] |
//! | unpack it into one root file system | [`flatten`] | [`unpack`] |
//! | unpack it into directories for overlayfs | [`layers`] | [`unpack`], [`lowerdirs`] |
//! | unpack one layer over directories that are there | [`unpack::layer_over`] | [`unpack`] |
//! | mount those directories | [`mount_layout`] | [`mount`](mod@mount); as an ordinary user inside [`userns`] |
//! | compare two trees | [`compare`](fn@compare) | [`compare`](mod@compare) |
//! | look inside without unpacking | [`inspect::Inside`] | [`inspect`] |
//! | compare images without unpacking | [`inspect::Inside::shown_tree`], [`compare::differences`] | [`inspect`], [`compare`](mod@compare) |
//! | make a file system image or a tar archive | [`export::flat_archive`] | [`export`] |
//! | make a bundle for runc or crun | `bundle::flat` | `bundle` (feature `bundle`) |
//! | run a program in an image, without a runtime | `container::start` | `container` (feature `bundle`) |
//! | copy images, squash layers, pack a directory as a layer | [`copy::copy`] | [`copy`](mod@copy), [`squash`](mod@squash), [`pack`](mod@pack) |
//! | append layers to an image, change its configuration | [`edit::edit`] | [`edit`] |
//! | only replay records of layers, without I/O | [`core::stack::Stack`] | [`core`](mod@core) |
//!
//! [`configuration`] reads `registries.conf` and `policy.json`, the administrator's decisions that podman and skopeo
//! obey too. A source applies them before it opens an image: the files that a caller names in its options, or the usual
//! ones for the program.
//!
//! Each room uses only rooms below it. ARCHITECTURE.md lists them, floor by floor, and a test holds the code to it.
//!
//! # Features
//! | feature | brings |
//! | --- | --- |
//! | none | images in local files: unpack, mount, compare, inspect, pack, export, squash, edit, copy; layers plain, gzip or zstd |
//! | `registry` | registries and engines: [`net`], `registries.conf`, signatures |
//! | `bundle` | bundles for runc and crun: [`bundle`](mod@bundle); containers without one: `container` |
//! | `xz`, `bzip2` | layers and archives compressed with xz or bzip2 |
//! | `cli` | the program; implies `registry` and `bundle` |
//! | `containerd` | the program `layflat-containerd`, a differ for containerd: `containerd` |
//!
//! All but `containerd` are on by default. With `default-features = false`, the dependencies contain no network, no TLS and no parser of
//! arguments. Using what was left out is an error that names its feature.
//!
//! # Example
//! Open an image, unpack it both ways, and compare two trees. [`open`], [`flatten`], [`layers`], [`mount_layout`] and
//! [`compare`](fn@compare) have an example each.
//! ```
//! use layflat::compare::CompareOptions;
//! use layflat::transport::source::OpenOptions;
//! use layflat::{NoProgress, Options};
//!
//! let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
//! let place = tempfile::tempdir()?;
//! let (rootfs, overlay) = (place.path().join("rootfs"), place.path().join("overlay"));
//!
//! let report = layflat::flatten(&image, &rootfs, &Options::default(), &NoProgress)?;
//! assert_eq!(report.layers.len(), 4);
//! assert_eq!(std::fs::read(rootfs.join("b"))?, b"this is b\n");
//!
//! layflat::layers(&image, &overlay, &Options::default(), &NoProgress)?;
//! assert!(overlay.join("layflat.json").exists());
//! // As root: layflat::mount_layout(&overlay, target, Default::default())?;
//!
//! assert!(layflat::compare(&rootfs, &rootfs, &CompareOptions::default())?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Some of what rooms share is used only by rooms that may be left out.
#![cfg_attr(not(all(feature = "registry", feature = "bundle")), allow(dead_code, unused_imports))]

mod below;
pub mod blob;
#[cfg(feature = "bundle")]
pub mod bundle;
pub mod cache;
pub mod compare;
pub mod configuration;
#[cfg(feature = "bundle")]
pub mod container;
#[cfg(feature = "containerd")]
pub mod containerd;
pub mod contents;
pub mod copy;
pub mod core;
pub mod edit;
pub mod erofs;
pub mod export;
pub mod ext4;
pub mod extract;
pub mod fs;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
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
pub mod split;
pub mod squash;
pub mod transport;
pub mod tree;
pub mod unpack;
pub mod userns;

#[doc(inline)]
pub use compare::compare;
#[doc(inline)]
pub use mount::mount_layout;
#[doc(inline)]
pub use transport::source::open;
#[doc(inline)]
pub use unpack::{flatten, layers, mstack};

pub use self::core::cancel::Cancel;
pub use self::core::limits::Limits;
pub use self::core::overlayfs::XattrNamespace;
pub use fs::DestinationError;
pub use notes::Notes;
pub use unpack::{Error, WhichLayer};
pub use unpack::{LayerReport, Loss, LossKind, Made, NoProgress, Progress, Report, Seconds};
pub use unpack::{OVERRIDE_STAT, Options, Owners};

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
