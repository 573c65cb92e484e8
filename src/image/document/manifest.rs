//! Manifests and indexes (image specification, manifest.md and image-index.md; Docker's schema 2 has the same fields),
//! and the file that marks a layout (image-layout.md).

use serde::Deserialize;

use super::Descriptor;

/// An index or a manifest: which, its fields tell.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) schema_version: u64,
    pub(crate) artifact_type: String,
    pub(crate) manifests: Option<Vec<Descriptor>>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Option<Vec<Descriptor>>,
    /// What manifests of artifacts have in the place of layers.
    pub(crate) blobs: Option<Vec<Descriptor>>,
    /// What it refers to.
    pub(crate) subject: Option<Descriptor>,
}

/// The file `oci-layout`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LayoutMarker {
    pub(crate) image_layout_version: String,
}
