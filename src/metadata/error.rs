//! Why there are no EROFS images.

use crate::contents::in_place::NotInPlace;
use crate::erofs::ErofsError;
use crate::fs::DestinationError;
use crate::mount::MountError;
use crate::unpack::Error;

/// Why an image could not be made mountable without being unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The image cannot be read, or a file not be written.
    #[error(transparent)]
    Image(#[from] Error),
    /// Its tree does not fit into an EROFS image.
    #[error(transparent)]
    Erofs(ErofsError),
    /// Its layers cannot be used where they lie.
    #[error(transparent)]
    NotInPlace(#[from] NotInPlace),
    /// Its owners are to be others than it says.
    #[error("EROFS images hold owners as the image has them; they cannot be shifted or recorded")]
    Owners,
    /// It cannot be mounted here.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl MetadataError {
    /// Whether unpacked layers would do where this does not.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Erofs(error) => {
                !matches!(error, ErofsError::Content { .. } | ErofsError::Write(_) | ErofsError::Cancelled)
            }
            Self::Owners | Self::Mount(MountError::NoErofs(_)) => true,
            Self::Image(_) | Self::NotInPlace(_) | Self::Mount(_) => false,
        }
    }
}

impl From<DestinationError> for MetadataError {
    fn from(error: DestinationError) -> Self {
        Self::Image(error.into())
    }
}

impl From<ErofsError> for MetadataError {
    fn from(error: ErofsError) -> Self {
        match error {
            ErofsError::Cancelled => Self::Image(Error::Cancelled),
            error => Self::Erofs(error),
        }
    }
}
