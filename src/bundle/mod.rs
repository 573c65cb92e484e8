//! Runtime bundles: what runc, crun and their like start a container from (runtime specification, bundle.md).
//!
//! A bundle is a directory with a `config.json` and a root file system. The first is the image's configuration,
//! converted as the image specification says, over the defaults of runc's own template; the second is one of the two
//! forms: the flat one, or an overlay mount, whose layers lie in the cache and serve any number of bundles.

mod defaults;
mod error;
mod flat;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod options;
mod overlay;
mod process;
mod rootfs;
mod runtime;
mod spec;
mod user;
mod write;

use std::path::PathBuf;

pub use error::BundleError;
pub use flat::flat;
pub use options::{Bind, BindError, BundleOptions, Confinement, Overrides};
pub use overlay::{OverlayBundle, overlay};
pub(crate) use process::{Process, process_of};
pub(crate) use runtime::Mount;

/// The root file system in a bundle.
const ROOTFS: &str = "rootfs";

/// A bundle that was made.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Where it is.
    pub directory: PathBuf,
    /// What was unpacked for it; nothing where the layers were there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<crate::unpack::Report>,
    /// Whether its root file system is mounted; none where nothing has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounted: Option<bool>,
    /// What the file system could not hold of layers in the cache (rule A4).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_kept: Vec<crate::unpack::Loss>,
    /// What was wrong with layers that were in the cache, and were unpacked anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<String>,
    /// What of the image's configuration is not in the bundle's, and why.
    pub left_out: Vec<String>,
}
