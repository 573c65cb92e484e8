//! A snapshotter and a differ for containerd, or a differ alone: layers are unpacked as they must be for the kernel to show
//! what the image means.
//!
//! containerd resolves, fetches, verifies and keeps the blobs as ever, asks a differ to unpack each, and a snapshotter for the
//! directories and the mounts (its proxy plugins of type `diff`, since 1.7.4, and `snapshot`). As a differ alone it
//! unpacks into the directories of containerd's own overlayfs snapshotter; as both, layers may be unpacked at the same
//! time, since they are finished when the one below is known. `docs/containerd.md` has the configuration, and what is
//! not there.
//!
//! The program `layflat-containerd` is [`listen`] and [`serve`]. What the differ cannot do right is answered with
//! UNIMPLEMENTED: then containerd asks the next differ in its list, which is its own.

mod content;
mod differ;
mod event;
mod filter;
mod metrics;
mod mounts;
mod packing;
mod proto;
mod queue;
mod running;
mod server;
mod snapshotter;
mod socket;
mod store;

pub use event::{Event, LayerDone, Tell};
pub use server::serve;
pub use socket::{MetricsListener, listen};
pub use store::Backend;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::limits::Limits;

/// How layers are unpacked for containerd.
#[derive(Debug)]
pub struct Settings {
    /// Where snapshots are kept; without, there is no snapshotter.
    pub root: Option<PathBuf>,
    /// How layers are kept there.
    pub backend: Backend,
    /// containerd's root directory, in which its content store is.
    pub containerd_root: PathBuf,
    /// containerd's socket, by which layers that are made come into its content store.
    pub containerd_address: PathBuf,
    /// How many layers are unpacked, finished or made at the same time; more wait for their turn, in the order in which they came.
    pub jobs: NonZero<usize>,
    /// How many threads one of them may use, about; when `None`, as many as it has use for.
    pub layer_jobs: Option<NonZero<usize>>,
    /// The most that a layer, with those below it, may ask for (rule S4).
    pub limits: Limits,
    /// Do not wait until a layer is on disk (rule S6).
    pub no_sync: bool,
    /// How long layers may still take that are being unpacked when the program is told to end.
    pub grace: Duration,
    /// Hears what happens.
    pub tell: Tell,
}
