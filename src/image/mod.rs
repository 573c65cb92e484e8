//! What an image is, wherever it came from: a configuration and a stack of layers, each a blob.

mod manifest;
mod media_type;
mod name;
mod platform;
mod reference;
mod userinfo;

use oci_spec::image::ImageConfiguration;

use crate::blob::{Blob, Compression, Digest};

pub use manifest::Manifest;
pub(crate) use manifest::{Descriptor, Document};
pub(crate) use media_type::{MediaType, stated_compression};
pub use name::{ImageName, ImageNameError};
pub use platform::{Platform, PlatformError};
pub use reference::{DaemonImage, Reference, ReferenceError};
pub use userinfo::mask_passwords;

/// An image that was opened: its manifest is read and checked, its layers are not read yet.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the source calls it, `name:tag` or a tag; nothing where it has no name.
    pub name: Option<String>,
    /// The image manifest. Docker archives have none.
    pub manifest: Option<Manifest>,
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
    pub parsed: ImageConfiguration,
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

impl Layer {
    /// How its media type says that it is compressed.
    pub fn stated_compression(&self) -> Option<Compression> {
        self.media_type.as_deref().and_then(stated_compression)
    }

    /// The same layer, with the DiffID that the configuration states.
    #[must_use]
    pub fn with_diff_id(self, diff_id: Option<Digest>) -> Self {
        let blob = match &diff_id {
            Some(diff_id) => self.blob.diff_id_by(diff_id.algorithm()),
            None => self.blob,
        };
        Self { blob, diff_id, ..self }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no JSON document of the specified form.
    #[error("the image's configuration cannot be read: {0}")]
    Json(String),
    /// A diff_id is no digest.
    #[error("the image's configuration: {0}")]
    DiffId(crate::blob::DigestError),
    /// As many layers as diff_ids there must be.
    #[error(
        "the image's configuration has {diff_ids} diff_ids, its manifest {layers} layers: they do not belong together"
    )]
    LayerCount {
        /// In the configuration.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
}

impl Image {
    /// Digest of the image manifest, where the source has one.
    pub fn manifest_digest(&self) -> Option<&Digest> {
        self.manifest.as_ref().map(|manifest| &manifest.digest)
    }
}

impl Image {
    /// What made each layer, bottom first: by the history's entries that are not marked as empty.
    pub fn created_by(&self) -> Vec<Option<String>> {
        let history = self.config.as_ref().and_then(|config| config.parsed.history().clone()).unwrap_or_default();
        let mut lines = history
            .iter()
            .filter(|entry| !entry.empty_layer().unwrap_or(false))
            .map(|entry| entry.created_by().clone().or_else(|| entry.comment().clone()));
        self.layers.iter().map(|_| lines.next().flatten()).collect()
    }
}

impl Config {
    /// Reads a configuration. What a writer left `null` counts as left out.
    ///
    /// # Errors
    /// A text that is no image configuration.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let json = |error: serde_json::Error| ConfigError::Json(error.to_string());
        let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(json)?;
        drop_nulls(&mut value);
        // Older builders left it out; the specification wants it.
        if let Some(rootfs) = value.get_mut("rootfs").and_then(serde_json::Value::as_object_mut) {
            rootfs.entry("type").or_insert_with(|| "layers".into());
            rootfs.entry("diff_ids").or_insert_with(|| serde_json::json!([]));
        }
        let parsed = serde_json::from_value(value).map_err(json)?;
        Ok(Self { digest: Digest::sha256_of(&bytes), bytes, parsed })
    }

    /// The diff_ids of the layers, bottom first.
    ///
    /// # Errors
    /// One that is no digest, or not as many as there are layers.
    pub fn diff_ids(&self, layers: usize) -> Result<Vec<Digest>, ConfigError> {
        let diff_ids: Vec<Digest> = self
            .parsed
            .rootfs()
            .diff_ids()
            .iter()
            .map(|text| text.parse().map_err(ConfigError::DiffId))
            .collect::<Result<_, _>>()?;
        if diff_ids.len() != layers {
            return Err(ConfigError::LayerCount { diff_ids: diff_ids.len(), layers });
        }
        Ok(diff_ids)
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.parsed.os().to_string(),
            architecture: self.parsed.architecture().to_string(),
            variant: self.parsed.variant().clone(),
        }
    }
}

fn drop_nulls(value: &mut serde_json::Value) {
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|_, value| !value.is_null());
                pending.extend(map.values_mut());
            }
            serde_json::Value::Array(list) => pending.extend(list),
            _ => {}
        }
    }
}

/// The ChainIDs of a stack's layers, from their DiffIDs, both bottom first (image specification, config.md, "Layer
/// ChainID"): of the bottom layer its DiffID, of any other the SHA-256 of the ChainID below, a space, and its DiffID.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::sha256_of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let [one, two] = [b"one", b"two"].map(|bytes| Digest::sha256_of(bytes));
        let chain = chain_ids(&[one.clone(), two.clone()]);
        assert_eq!(chain[0], one);
        assert_eq!(chain[1], Digest::sha256_of(format!("{one} {two}").as_bytes()));
        assert_eq!(chain_ids(&[]), []);
    }

    #[test]
    fn configurations_as_docker_writes_them_are_read() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Labels":null,
            "Healthcheck":{"Test":["CMD","true"],"Interval":30000000000},"Volumes":{"/data":{}},"OnBuild":null},
            "created":null,"history":[{"created_by":"x"},{"created":"2024-01-01T00:00:00Z","empty_layer":true}],
            "rootfs":{"type":"layers","diff_ids":null},"variant":"v8","os.version":"1","docker_version":"24.0"}"#;
        let config = Config::parse(text.to_vec()).unwrap();
        assert_eq!(config.bytes, text);
        assert_eq!(config.diff_ids(0).unwrap(), []);
        assert!(config.diff_ids(1).unwrap_err().to_string().contains("0 diff_ids"));
        assert_eq!(config.platform().to_string(), "linux/amd64/v8");
        assert!(Config::parse(b"[]".to_vec()).is_err());
    }
}
