//! What the administrator of this machine has decided about registries and images, in the files that podman, skopeo and
//! buildah read too: `registries.conf` (containers-registries.conf(5)) says where images are pulled from and what must
//! not be used, `policy.json` (containers-policy.json(5)) which images may be used at all.
//!
//! ```text
//! registries  registries.conf: rules by prefix, mirrors, what is blocked
//! policy      policy.json: requirements by transport and scope
//! hosts       containerd's hosts.toml: mirrors of one registry
//! mirror      a mirror as an address names it
//! scope       which scopes an image is in
//! identity    whether a signature is for the image that was asked for
//! files       where the files are
//! ```
//! Only `files` does I/O.

mod files;
#[cfg(all(feature = "registry", any(fuzzing, test)))]
pub(crate) mod fuzzing;
#[cfg(feature = "registry")]
mod hosts;
mod identity;
#[cfg(feature = "registry")]
mod mirror;
mod policy;
#[cfg(feature = "registry")]
mod registries;
mod scope;

use crate::core::chain::Cause;
use std::path::PathBuf;

pub(crate) use files::load_policy;
#[cfg(feature = "registry")]
pub(crate) use files::{load_hosts, load_registries};
#[cfg(feature = "registry")]
pub(crate) use hosts::Hosts;
#[cfg(feature = "registry")]
pub use mirror::{Mirror, MirrorError};
pub(crate) use policy::{Keys, Policy, Requirement, SigstoreSigned};
#[cfg(feature = "registry")]
pub(crate) use registries::{Endpoint, Pulls, Registries};
pub(crate) use scope::Subject;

/// Which file of its kind counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfigurationFile {
    /// None: nothing was decided.
    #[default]
    Nothing,
    /// The one that podman and skopeo would read, and what belongs to it. That there is none is fine.
    Usual,
    /// This one alone, which must be there.
    At(PathBuf),
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct ConfigurationError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The problem.
    pub problem: String,
    /// What shows that it is wrong, where there is such an error.
    pub source: Option<Cause>,
}

impl ConfigurationError {
    fn new(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, problem: problem.into(), source: None }
    }

    fn because(self, error: impl Into<Cause>) -> Self {
        Self { source: Some(error.into()), ..self }
    }
}
