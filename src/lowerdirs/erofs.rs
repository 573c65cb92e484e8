//! `layflat.json` of an image whose contents lie in content files or archives, with EROFS images of its tree over them.

use super::file::FileSeal;
use crate::core::digest::Digest;

/// How the path of an image begins that is kept in a cache for all images with the same layers.
const SHARED: &str = "../";

/// The contents of such a `layflat.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErofsLayout {
    /// Version of this file's format; this is 1, or 2 in a cache.
    pub format: u32,
    /// Always `erofs`.
    pub form: String,
    /// Digest of the image manifest, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Digest>,
    /// Digest of the image's configuration: the image ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// The DiffIDs of the layers, bottom first; none where the layers were not read (`--verify none`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff_ids: Vec<Digest>,
    /// Whether every byte was checked against the digests that the image states.
    pub verified: bool,
    /// Whether `images` is one for the whole stack, rather than one for each layer.
    pub merged: bool,
    /// Whether erofsfuse reads them right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_erofsfuse: bool,
    /// The EROFS images, topmost first.
    pub images: Vec<Metadata>,
    /// The files that contents lie in.
    pub devices: Vec<ContentDevice>,
}

/// An EROFS image: the tree, and where contents lie.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Metadata {
    /// Its file, relative to the description.
    pub file: String,
    /// What the file was when it was made.
    #[serde(flatten)]
    pub seal: FileSeal,
    /// Its devices, in its order, as indexes of the description's `devices`.
    pub devices: Vec<usize>,
}

/// A file that contents lie in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContentDevice {
    /// A plain path relative to the description, or an absolute one.
    pub path: String,
    /// What the file was.
    #[serde(flatten)]
    pub seal: FileSeal,
}

impl ErofsLayout {
    /// The version of the file's format.
    pub(crate) const FORMAT: u32 = 1;
    /// The version where the images of layers lie in a cache, shared with other images: their paths begin with [`SHARED`].
    pub(crate) const SHARED: u32 = 2;
    /// What the file is about.
    pub(crate) const FORM: &str = "erofs";

    /// The directory beside the description's own, in a cache, that the path of an image leads to; none for any other path. Only this one leads
    /// out of the description's own directory.
    pub(crate) fn shared_layer(file: &str) -> Option<&str> {
        let name = file.strip_prefix(SHARED)?.strip_suffix("/tree.erofs")?;
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_plain.then_some(name)
    }

    /// As it is written to disk.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
