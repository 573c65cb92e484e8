//! Manifests and indexes: the documents that say what an image is made of (image specification, manifest.md, image-index.md and
//! descriptor.md; Docker's schema 2 has the same fields).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MediaType, Platform};
use crate::blob::Digest;

const ATTESTATION: &str = "vnd.docker.reference.type";

/// A manifest as it is stored, to the byte, so that it can be handed on under the same digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of `bytes`.
    pub digest: Digest,
    /// What it is, in OCI's or in Docker's words.
    pub media_type: String,
    /// The manifest as it is stored.
    pub bytes: Vec<u8>,
}

/// What of a descriptor is needed (image specification, descriptor.md).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescriptorPlatform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DescriptorPlatform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// An index or a manifest: which, its fields tell.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) media_type: Option<String>,
    pub(crate) schema_version: Option<u64>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) manifests: Option<Vec<Descriptor>>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Option<Vec<Descriptor>>,
    /// What manifests of artifacts have in the place of layers.
    pub(crate) blobs: Option<Vec<Descriptor>>,
    /// What it refers to.
    pub(crate) subject: Option<Descriptor>,
}

impl Descriptor {
    /// Whether it is of an attestation, which is no image although it lies among them.
    pub(crate) fn is_attestation(&self) -> bool {
        let annotated = self.annotations.as_ref().is_some_and(|all| all.contains_key(ATTESTATION));
        let unknown = self.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        // As whoever lists what refers to an image describes it.
        let refers =
            self.artifact_type.as_deref().is_some_and(|said| !matches!(MediaType::of(said), MediaType::Config));
        annotated || unknown || refers
    }
}

impl From<&DescriptorPlatform> for Platform {
    fn from(stated: &DescriptorPlatform) -> Self {
        Self {
            os: stated.os.clone(),
            architecture: stated.architecture.clone(),
            variant: stated.variant.clone().filter(|variant| !variant.is_empty()),
        }
    }
}
