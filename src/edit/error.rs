//! Errors of editing an image.

use std::path::PathBuf;

use crate::core::chain::Cause;
use crate::image::{ConfigError, DocumentError};
use crate::pack::PackError;
use crate::transport::source::SourceError;

/// Why an image could not be edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The image, or a file that is to be a layer, cannot be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A layer of the image that cannot be read.
    #[error(transparent)]
    Image(crate::unpack::Error),
    /// Images for several platforms, of which none was chosen.
    #[error("it holds images for {}", .platforms.join(", "))]
    SeveralPlatforms {
        /// The platforms.
        platforms: Vec<String>,
    },
    /// An index that lists no image.
    #[error("its index lists no image")]
    NoImage,
    /// Something else.
    #[error("it is {kind}, not an image")]
    NotAnImage {
        /// What it is.
        kind: String,
    },
    /// A file that cannot be a layer.
    #[error("{path:?} cannot be a layer")]
    Layer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: Cause,
    },
    /// A file without anything in it.
    #[error("{0:?} is empty: it is not a tar archive")]
    Empty(PathBuf),
    /// A directory that cannot be packed as a layer.
    #[error("{path:?} cannot be packed as a layer")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: PackError,
    },
    /// The new layer cannot be written.
    #[error("cannot write the new layer in {path:?}")]
    Scratch {
        /// The directory for temporary files.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// The configuration is not JSON.
    #[error("the image's configuration cannot be read")]
    Configuration(#[source] DocumentError),
    /// The new configuration is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The manifest is not JSON.
    #[error("the image's manifest cannot be read")]
    Manifest(#[source] DocumentError),
    /// A configuration that readers would refuse.
    #[error("the new configuration has {size} bytes, and readers take at most {limit}")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The limit on manifests and configurations.
        limit: u64,
    },
    /// The work was cancelled.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

impl From<crate::unpack::Error> for EditError {
    fn from(error: crate::unpack::Error) -> Self {
        match error {
            crate::unpack::Error::Cancelled => Self::Cancelled,
            other => Self::Image(other),
        }
    }
}
