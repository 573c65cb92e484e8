//! Errors of copying images.

use crate::blob::{BlobError, Compress};
use crate::core::chain::{Cause, Chain};
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
    #[error("{what}")]
    Read {
        /// Which blob.
        what: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A layer is not the one that the configuration names (rule S3).
    #[error(
        "{what}: the configuration states diff_id {stated}, but the layer's is {found}: image and layers do not belong together, or were altered"
    )]
    DiffId {
        /// Which layer.
        what: String,
        /// As the configuration states it.
        stated: Digest,
        /// The DiffID of the layer.
        found: Digest,
    },
    /// An index for a place that holds single images.
    #[error("docker archives, engines and `dir:` hold images of one platform each")]
    Index,
    /// A compression for a place that holds none.
    #[error("docker archives, engines and `dir:` hold layers uncompressed, not by {0}")]
    Uncompressed(Compress),
    /// Something that is not an image, for a place that holds nothing else.
    #[error(
        "{name} is {what}, not an image, and docker archives, engines and `dir:` hold images only: copy it to a registry, oci:DIR or oci-archive:FILE"
    )]
    Artifact {
        /// Its name at the source.
        name: String,
        /// What it is.
        what: String,
    },
    /// Referrers, for a place that holds images only.
    #[error("docker archives, engines and `dir:` hold images only, and no referrers")]
    Referrers,
    /// OCI's format, for a place that has none of its manifests.
    #[error("docker archives, engines and `dir:` hold no OCI manifests")]
    NoOciManifests,
    /// Docker's format, for a place that has none of its manifests.
    #[error("OCI layouts hold OCI manifests, and nothing else")]
    NoDockerManifests,
    /// A compression that Docker's format does not have.
    #[error("Docker's manifests have no media type for layers compressed with {0}")]
    NotInDocker(&'static str),
    /// A registry refuses a manifest in OCI's format, and it cannot be converted to Docker's.
    #[error("the manifest cannot be stored in OCI's format, and not be converted to Docker's ({})", Chain(.conversion.as_ref()))]
    Refused {
        /// Why it cannot be converted.
        conversion: Box<CopyError>,
        /// The message of the registry.
        #[source]
        refusal: Box<StoreError>,
    },
    /// A layer is compressed in a way that Docker's format does not have.
    #[error("{layer} is compressed with {compression}, for which Docker's manifests have no media type")]
    LayerNotInDocker {
        /// Which layer.
        layer: String,
        /// How it is compressed.
        compression: &'static str,
    },
    /// A document of the image that cannot be made anew.
    #[error("{name}")]
    Document {
        /// Which one.
        name: String,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// The work was cancelled.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

// By hand: an interruption is the same wherever it comes.
impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cancelled => Self::Cancelled,
            other => Self::Store(Box::new(other)),
        }
    }
}
