//! `layflat.json`: describes unpacked overlay layers, and how to mount them.

use super::modified::Modified;
use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use std::collections::BTreeMap;

/// The file that describes unpacked overlay layers, at the top of their directory.
pub const FILE_NAME: &str = "layflat.json";

/// How the path of a layer begins that images share.
const SHARED: &str = "../../layers/";

/// The contents of `layflat.json`. Directories are relative to the file's own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    /// Version of this file's format; this is 1, or 2 in a cache.
    pub format: u32,
    /// Always `overlay`.
    pub form: String,
    /// Digest of the image manifest, where the source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Digest>,
    /// Digest of the image's configuration: the image ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// The namespace of the overlayfs whiteouts and opaque directories: a mount must be told `userxattr` if and only if
    /// this is `user`.
    pub xattr_namespace: XattrNamespace,
    /// The image's layers, bottom first.
    pub layers: Vec<LayerDirectory>,
    /// What to mount, topmost first: at least two directories, as overlayfs wants.
    pub lowerdir: Vec<String>,
    /// For each of those: when its root and the directories right in it were last modified, so that a mount can tell
    /// whether it was changed since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modified: BTreeMap<String, Modified>,
}

/// One layer of unpacked overlay layers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerDirectory {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Digest of this layer and all below it (image specification, config.md, "Layer ChainID").
    pub chain_id: Digest,
    /// Where the layer lies; none for one that changes nothing (rule O4).
    pub directory: Option<String>,
}

impl Layout {
    /// The version of the file's format.
    pub(crate) const FORMAT: u32 = 1;
    /// The version where the layers lie in a cache, shared with other images: their paths begin with [`SHARED`].
    pub(crate) const SHARED: u32 = 2;
    /// What the file is about.
    pub(crate) const FORM: &str = "overlay";

    /// The layer in a cache that a path of `lowerdir` leads to, from an image beside the layers; none for any other path.
    /// Only this one leads out of the description's own directory.
    pub(crate) fn shared_layer(lower_directory: &str) -> Option<&str> {
        let name = lower_directory.strip_prefix(SHARED)?.strip_suffix("/tree")?;
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
