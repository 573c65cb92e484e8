//! What a caller can configure about a bundle.

use crate::core::idmap::IdMaps;
use crate::metadata::How;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a bundle is made. The default is what the image says, for root to run.
#[derive(Debug, Clone, Default)]
pub struct BundleOptions {
    /// What is to be otherwise than the image says.
    pub overrides: Overrides,
    /// Whose the container is.
    pub confinement: Confinement,
    /// How an image whose root file system is mounted is made ready; `stacking` is of no consequence.
    pub how: How,
}

/// What is to be otherwise than the image says; `None` and nothing leave it as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overrides {
    /// The program; the image's `Cmd` was meant for another and goes with it.
    pub entrypoint: Option<String>,
    /// The arguments, in the place of `Cmd`.
    pub arguments: Option<Vec<String>>,
    /// Variables of the environment, set or replaced.
    pub environment: Vec<(String, String)>,
    /// `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`.
    pub user: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The host's name, as the container sees it.
    pub hostname: Option<String>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Files and directories of the host to be shown in the container.
    pub binds: Vec<Bind>,
}

/// A file or directory of the host that the container shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container; an absolute path.
    pub destination: String,
    /// Whether the container may not change it.
    pub read_only: bool,
}

/// A bind that is not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a bind: expected SOURCE:DESTINATION or SOURCE:DESTINATION:ro, DESTINATION being an absolute path"
)]
pub struct BindError(String);

impl FromStr for Bind {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let (paths, read_only) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        match paths.rsplit_once(':') {
            Some((source, destination)) if !source.is_empty() && destination.starts_with('/') => {
                Ok(Self { source: source.into(), destination: destination.to_owned(), read_only })
            }
            _ => Err(BindError(text.to_owned())),
        }
    }
}

/// Whose the container is, and what that leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Confinement {
    /// Root's, with root's ids.
    #[default]
    Root,
    /// Root's, in a user namespace of its own with these ids.
    Mapped(IdMaps),
    /// An ordinary user's, in a user namespace of its own with these ids. As `runc spec --rootless` has it: with the
    /// host's network, its /sys, and no limits on resources.
    Rootless(IdMaps),
    /// The same for a runtime that is started in the user namespace already, as by `layflat unshare`.
    Inside,
}

impl Confinement {
    /// The ids of the namespace that the bundle asks for.
    pub fn maps(&self) -> Option<&IdMaps> {
        match self {
            Self::Mapped(maps) | Self::Rootless(maps) => Some(maps),
            Self::Root | Self::Inside => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read() {
        let bind = |source: &str, destination: &str, read_only| {
            Ok(Bind { source: source.into(), destination: destination.to_owned(), read_only })
        };
        assert_eq!("/a:/b".parse(), bind("/a", "/b", false));
        assert_eq!("a:/b:ro".parse(), bind("a", "/b", true));
        assert_eq!("/a:b:/c:rw".parse(), bind("/a:b", "/c", false));
        for text in ["", "/a", "/a:", ":/b", "/a:b", "/a:b:ro", "ro"] {
            assert!(text.parse::<Bind>().is_err(), "{text:?}");
        }
    }
}
