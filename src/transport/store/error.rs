//! Why an image could not be stored.

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
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// Whoever reads standard output has gone, or cannot take more.
    #[error("cannot write the whole archive to standard output, and what was written is incomplete")]
    Stdout(#[source] std::io::Error),
    /// What was to be stored cannot be read.
    #[error(transparent)]
    Content(std::io::Error),
    /// A place that no image can be put into.
    #[error("{place} {problem}")]
    CannotWrite {
        /// What was named.
        place: String,
        /// Why, and what to do.
        problem: String,
    },
    /// What is there already is something else, or damaged.
    #[error("{path:?} {problem}")]
    Occupied {
        /// What was named.
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
    /// What is there already cannot be read, so that nothing can be added.
    #[error("cannot add to the existing destination")]
    Present(#[source] SourceError),
    /// A registry does not take it.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(crate::net::registry::RegistryError),
    /// An engine does not take it.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Daemon(crate::net::engine::DaemonError),
    /// Such places were left out when layflat was built.
    #[error("{place} needs the feature `{feature}`, which this build lacks")]
    NotBuilt {
        /// What was named.
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
        /// What was named.
        path: PathBuf,
        /// Why, and what to do.
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

    /// The same, of a file that was there already, of which the user has said nothing.
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
