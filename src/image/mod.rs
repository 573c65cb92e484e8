//! What an image is, wherever it came from: a configuration and a stack of layers, each a blob.

mod platform;
mod reference;

use crate::blob::{Blob, Digest};

pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

/// An image that was opened: its manifest is read and checked, its layers are not read yet.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the source calls it, `name:tag` or a tag; nothing where it has no name.
    pub name: Option<String>,
    /// Digest of the image manifest. Docker archives have none.
    pub manifest_digest: Option<Digest>,
    /// The configuration. Bare layers have none.
    pub config: Option<Config>,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
}

/// An image's configuration, as it is stored and as it reads.
#[derive(Debug, Clone)]
pub struct Config {
    /// Digest of `bytes`: the image ID.
    pub digest: Digest,
    /// The configuration as it is stored, to the byte.
    pub bytes: Vec<u8>,
    /// The configuration as the image specification defines it.
    pub parsed: oci_spec::image::ImageConfiguration,
}

/// One layer of an image: where its bytes are, and what the image says about them.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The stored bytes, compressed or not.
    pub blob: Blob,
    /// The media type, where the source states one.
    pub media_type: Option<String>,
    /// The digest of the uncompressed archive that the configuration states. Bare layers have none until they are read.
    pub diff_id: Option<Digest>,
}
