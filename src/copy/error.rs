//! Why images could not be copied.

use crate::blob::{BlobError, Compress};
use crate::core::digest::Digest;
use crate::transport::store::StoreError;

/// Why images could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store cannot take them.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// A blob that is damaged, or not what the image states.
    #[error(transparent)]
    Blob(BlobError),
    /// A blob that cannot be read or changed.
    #[error("{what}: {error}")]
    Read {
        /// Which blob.
        what: String,
        /// Why.
        error: std::io::Error,
    },
    /// A layer is not the one that the configuration names (rule S3).
    #[error(
        "{what}: the configuration states diff_id {stated}, but the layer's is {found}: image and layers do not belong together, or were altered"
    )]
    DiffId {
        /// Which layer.
        what: String,
        /// What the configuration says.
        stated: Digest,
        /// What the layer is.
        found: Digest,
    },
    /// An index for a place that holds single images.
    #[error(
        "docker archives, engines and `dir:` hold images of one platform each: omit --all-platforms, or copy to oci:DIR or oci-archive:FILE"
    )]
    Index,
    /// A compression for a place that holds none.
    #[error(
        "docker archives, engines and `dir:` hold layers uncompressed: omit --compression {0}, or copy to oci:DIR or oci-archive:FILE"
    )]
    Uncompressed(Compress),
    /// Something that is not an image, for a place that holds nothing else.
    #[error(
        "{name} is {what}, not an image, and docker archives, engines and `dir:` hold images only: copy it to a registry, oci:DIR or oci-archive:FILE"
    )]
    Artifact {
        /// What the source calls it.
        name: String,
        /// What it is.
        what: String,
    },
    /// A format that the place does not have.
    #[error("{0}")]
    Format(&'static str),
    /// A registry refuses a manifest in OCI's words, and it cannot be had in Docker's.
    #[error("{refusal}; it cannot be converted to Docker's format instead: {name} {problem}")]
    Refused {
        /// What the registry says.
        refusal: String,
        /// What cannot be converted.
        name: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// A document of the image that cannot be made anew.
    #[error("{name}: {problem}")]
    Document {
        /// Which one.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The work was cancelled.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

// By hand: `#[from]` would make it the error's source too, and whoever prints the chain would print it twice.
impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cancelled => Self::Cancelled,
            other => Self::Store(Box::new(other)),
        }
    }
}
