//! Why something cannot be done to a snapshot, in the terms that containerd knows.

use std::io;

use crate::core::chain::Chain;
use crate::metadata::MetadataError;
use crate::unpack;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such snapshot.
    #[error("{0}")]
    Missing(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// Not in the state that it is in.
    #[error("{0}")]
    Precondition(String),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The layer cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] unpack::Error),
    /// Its EROFS image cannot be made.
    #[error(transparent)]
    Image(MetadataError),
    /// The kernel refuses something.
    #[error("{what}: {}", Chain(error))]
    Io {
        what: String,
        /// Part of the text: it is shown alone.
        error: io::Error,
    },
}

impl From<MetadataError> for StoreError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Image(error) => Self::Unpack(error),
            error => Self::Image(error),
        }
    }
}

impl StoreError {
    pub(super) fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io { what: what.into(), error }
    }
}
