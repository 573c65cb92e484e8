//! An image, independent of where it came from: a manifest, a configuration, and a stack of layers.

pub(crate) mod document;
pub(crate) mod history;
mod media_type;
mod notice;

use crate::blob::{Blob, Compression};
use crate::core::digest::Digest;
use document::Object;

use crate::core::reference::Platform;
pub use document::{Configuration, DocumentError, History, NulError, RootFs, RunConfig};
pub(crate) use document::{Descriptor, Document, quoted};
pub(crate) use media_type::{MediaType, stated_compression};
pub use notice::Notice;

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
    /// Irregularities that do not prevent using it (rule D4).
    pub notices: Vec<Notice>,
}

/// A manifest as it is stored, to the byte, so that it can be handed on under the same digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of `bytes`, by the algorithm of whoever names it.
    pub digest: Digest,
    /// What it is, in OCI's or in Docker's words.
    pub media_type: String,
    /// The manifest as it is stored.
    pub bytes: Vec<u8>,
}

/// An image's configuration, as it is stored and as it reads.
#[derive(Debug, Clone)]
pub struct Config {
    /// Digest of `bytes`: the image ID. By SHA-256, unless the manifest names it by another algorithm.
    pub digest: Digest,
    /// The configuration as it is stored, to the byte.
    pub bytes: Vec<u8>,
    /// What it states.
    pub parsed: Configuration,
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
    /// The digest that the name of its file spells, where nothing else states one. A name is not a statement, and may
    /// be wrong (rule D2).
    pub file_digest: Option<Digest>,
    /// Where else it can be had, as its descriptor says: layers that only their vendor may hand out have such
    /// addresses.
    pub urls: Vec<String>,
}

impl Layer {
    /// A bare layer, with nothing stated about it.
    pub fn bare(blob: Blob) -> Self {
        Self { blob, media_type: None, diff_id: None, file_digest: None, urls: Vec::new() }
    }

    /// How its media type says that it is compressed.
    pub fn stated_compression(&self) -> Option<Compression> {
        self.media_type.as_deref().and_then(stated_compression)
    }

    /// Whether its media type says that only its vendor may hand it out.
    pub fn is_nondistributable(&self) -> bool {
        self.media_type.as_deref().is_some_and(|text| MediaType::of(text) == MediaType::ForeignLayer)
    }

    /// What there is to say where its file is named by another digest than that of its bytes.
    pub(crate) fn misnamed(&self, found: &Digest) -> Option<Notice> {
        let named =
            self.file_digest.as_ref().filter(|named| named.algorithm() == found.algorithm() && *named != found)?;
        Some(Notice::FileName { file: named.to_string(), found: found.clone() })
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
    /// It is not a JSON document of the specified form.
    #[error("the image's configuration cannot be read")]
    Json(#[source] DocumentError),
    /// A diff_id is not a digest.
    #[error("the image's configuration")]
    DiffId(#[source] crate::core::digest::DigestError),
    /// As many layers as diff_ids there must be.
    #[error(
        "the image's configuration has {diff_ids} diff_ids, but its manifest has {layers} layers: they do not belong together"
    )]
    LayerCount {
        /// In the configuration.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
}

impl Manifest {
    /// A descriptor of it.
    pub(crate) fn described(&self) -> Object {
        Descriptor::of(self.media_type.clone(), &self.digest, self.bytes.len() as u64).written().clone()
    }

    /// A descriptor of it among others that refer to the same image, with what the distribution specification wants
    /// from it ("Listing Referrers").
    pub(crate) fn described_as_referrer(&self) -> Object {
        let mut described = self.described();
        let document = Object::parse(&self.bytes).unwrap_or_default();
        let own = document.string("artifactType").filter(|said| !said.is_empty());
        if let Some(artifact_type) = own.or_else(|| document.object("config").string("mediaType")) {
            described.set("artifactType", &artifact_type);
        }
        let annotations = document.object("annotations");
        if !annotations.is_empty() {
            described.set("annotations", &annotations);
        }
        described
    }
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
        let history = self.config.as_ref().map(|config| config.parsed.history.as_slice()).unwrap_or_default();
        let words =
            |entry: &History| [&entry.created_by, &entry.comment].into_iter().find(|words| !words.is_empty()).cloned();
        let mut lines = history.iter().filter(|entry| !entry.empty_layer).map(words);
        self.layers.iter().map(|_| lines.next().flatten()).collect()
    }
}

impl Config {
    /// Reads a configuration, as Go's encoding/json does (rule D1).
    ///
    /// # Errors
    /// A text that is not an image configuration.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let parsed = document::read(&bytes).map_err(ConfigError::Json)?;
        Ok(Self { digest: Digest::sha256_of(&bytes), bytes, parsed })
    }

    /// The configuration of an image that is known by its layers alone: for this machine, and nothing else.
    pub(crate) fn of_bare_layers(diff_ids: &[Digest]) -> Result<Self, ConfigError> {
        let Platform { os, architecture, variant } = Platform::host();
        let mut document = Object::default();
        document.set("architecture", &architecture);
        document.set("os", &os);
        if let Some(variant) = variant {
            document.set("variant", &variant);
        }
        document.set("config", &Object::default());
        document.set("rootfs", &rootfs(Object::default(), diff_ids));
        Self::parse(document.to_bytes())
    }

    /// The same configuration for other layers.
    pub(crate) fn with_diff_ids(&self, diff_ids: &[Digest]) -> Result<Self, ConfigError> {
        let mut document = Object::parse(&self.bytes).map_err(ConfigError::Json)?;
        let stated = document.object("rootfs");
        document.set("rootfs", &rootfs(stated, diff_ids));
        Self::parse(document.to_bytes())
    }

    /// The same configuration, by the digest that a manifest has for it.
    #[must_use]
    pub(crate) fn known_as(self, digest: Digest) -> Self {
        Self { digest, ..self }
    }

    /// The configuration as text that any reader of JSON takes: what is not Unicode is replaced, as Go does.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        document::text(&self.bytes)
    }

    /// The diff_ids of the layers, bottom first.
    ///
    /// # Errors
    /// One that is not a digest, or not as many as there are layers.
    pub fn diff_ids(&self, layers: usize) -> Result<Vec<Digest>, ConfigError> {
        let diff_ids: Vec<Digest> = self
            .parsed
            .rootfs
            .diff_ids
            .iter()
            .map(|text| text.parse().map_err(ConfigError::DiffId))
            .collect::<Result<_, _>>()?;
        if diff_ids.len() != layers {
            return Err(ConfigError::LayerCount { diff_ids: diff_ids.len(), layers });
        }
        Ok(diff_ids)
    }

    /// The platform that the image is for; what is not stated is empty.
    pub fn platform(&self) -> Platform {
        let Configuration { os, architecture, variant, .. } = &self.parsed;
        Platform::of(os, architecture, variant)
    }
}

fn rootfs(mut rootfs: Object, diff_ids: &[Digest]) -> Object {
    rootfs.set("type", "layers");
    rootfs.set("diff_ids", diff_ids);
    rootfs
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

    /// In lower case, as some producers write it, `user` is obeyed by every engine.
    #[test]
    fn d1_the_user_is_found_however_its_key_is_written() {
        for text in [&br#"{"config":{"user":"7"}}"#[..], br#"{"CONFIG":{"User":"0","USER":"7"}}"#] {
            assert_eq!(Config::parse(text.to_vec()).unwrap().parsed.config.user, "7");
        }
    }
}
