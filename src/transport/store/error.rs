//! Errors of storing images.

use std::path::{Path, PathBuf};

use crate::blob::BlobError;
use crate::core::reference::ImageNameError;
use crate::fs::{PlaceError, shown};
use crate::transport::registry;
use crate::transport::source::SourceError;

/// Why an image could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be written.
    #[error("{path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        error: std::io::Error,
    },
    /// Standard output is closed or full.
    #[error("cannot write the whole archive to standard output, and what was written is incomplete")]
    Stdout(#[source] std::io::Error),
    /// The content to store cannot be read.
    #[error(transparent)]
    Content(std::io::Error),
    /// No image can be written to this place.
    #[error("{place} {problem}")]
    CannotWrite {
        /// As the caller named it.
        place: String,
        /// The reason, and what to do.
        problem: String,
    },
    /// The destination holds something else, or is damaged.
    #[error("{path:?} {problem}")]
    Occupied {
        /// As the caller named it.
        path: PathBuf,
        /// What it is, and what to do.
        problem: String,
    },
    /// A document of what is there already has more than [`Limits::metadata_size`](crate::Limits::metadata_size).
    #[error("{path:?} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The document.
        path: PathBuf,
        /// The most there may be.
        limit: u64,
    },
    /// The destination cannot be read, so that nothing can be added to it.
    #[error("cannot add to the existing destination")]
    Present(#[source] SourceError),
    /// The registry reported an error.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(crate::net::registry::RegistryError),
    /// The engine reported an error.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Daemon(crate::net::engine::DaemonError),
    /// Such places were left out when layflat was built.
    #[error("{place} needs the feature `{feature}`, which this build lacks")]
    NotBuilt {
        /// As the caller named it.
        place: String,
        /// The feature of the crate.
        feature: &'static str,
    },
    /// A name that no image can have here.
    #[error(transparent)]
    Name(#[from] ImageNameError),
    /// One tag for several images.
    #[error("{0:?} is one tag, but every image has a tag of its own")]
    OneTag(String),
    /// A place that cannot be used as it is named.
    #[error("cannot use {path:?}")]
    Place {
        /// As the caller named it.
        path: PathBuf,
        /// The reason, and what to do.
        #[source]
        error: PlaceError,
    },
    /// There is no name, or a tag where a whole name must stand.
    #[error("{0}")]
    NameNeeded(String),
    /// The work was cancelled.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

impl StoreError {
    /// Whether a registry did not understand what it was to store, so that it may take the same in other words.
    pub(crate) fn refuses_format(&self) -> bool {
        registry::error::refuses_format(self)
    }

    pub(in crate::transport) fn io(path: &Path, error: impl Into<std::io::Error>) -> Self {
        Self::Io { path: shown(path), error: error.into() }
    }

    /// A place that cannot be used as it is named.
    pub(in crate::transport) fn place(path: &Path, error: PlaceError) -> Self {
        match error {
            PlaceError::Io(error) => Self::io(path, error),
            error => Self::Place { path: path.to_owned(), error },
        }
    }

    /// The same error for a file that was in the destination before.
    pub(in crate::transport) fn of_present(self, name: &str) -> Self {
        match self {
            Self::Content(error) => match error.downcast::<BlobError>() {
                Ok(error) => Self::Present(SourceError::Blob { name: name.to_owned(), error }),
                Err(error) => Self::Content(error),
            },
            other => other,
        }
    }
}
