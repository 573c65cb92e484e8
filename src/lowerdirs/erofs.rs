//! `layflat.json` of an image whose contents lie in content files or archives, with EROFS images of its tree over them.

use super::file::FileSeal;
use crate::core::digest::Digest;

/// The contents of such a `layflat.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErofsLayout {
    /// Version of this file's format; this is 1.
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
    /// What the file is about.
    pub(crate) const FORM: &str = "erofs";

    /// As it is written to disk.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
