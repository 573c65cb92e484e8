//! Runs a container in namespaces of the caller's own, without a runtime.
//!
//! Two processes of this program are at work. [`start`] is called in a user and mount namespace that is already entered: it makes the other
//! namespaces and starts the program again in them, which calls [`init`]. That one is process 1 there. It mounts, enters the
//! root file system, gives up privileges, starts the image's program, passes signals on to it, reaps what is left behind, and ends as
//! the program did: the kernel then ends all that still runs in the namespaces, and their mounts are gone with them.
//!
//! It is no sandbox for hostile programs: no seccomp, no limits on resources, and, unless it is asked for, the host's
//! network.

mod error;
mod init;
mod mounts;
mod place;
mod privileges;
mod root;
mod start;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bundle::Overrides;

pub use error::ContainerError;
pub use init::{Ended, init};
pub use start::{Handles, Running, start};

/// What is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Container {
    /// The image's configuration, as text; bare layers have none.
    pub config: Option<String>,
    /// The image, unpacked for mounting.
    pub layout: PathBuf,
    /// The directory that all of it lies in.
    pub cache: PathBuf,
    /// What is to be otherwise than the image says.
    pub overrides: Overrides,
    /// Which network it has.
    pub network: Network,
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// None.
    None,
}

impl Container {
    /// A container of an image that is ready for mounting at `layout`, in `cache`.
    pub fn new(config: Option<&crate::image::Config>, layout: PathBuf, cache: PathBuf, overrides: Overrides) -> Self {
        let config = config.map(|config| config.text().into_owned());
        Self { config, layout, cache, overrides, network: Network::default() }
    }
}
