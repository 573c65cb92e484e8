//! Descriptors (image specification, descriptor.md).

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Object, go, read};
use crate::core::digest::Digest;
use crate::core::reference::Platform;
use crate::image::MediaType;

const ATTESTATION: &str = "vnd.docker.reference.type";

/// What of a descriptor is needed, and the descriptor as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    /// What its manifest is of, as whoever lists what refers to an image says.
    pub(crate) artifact_type: String,
    pub(crate) size: Option<u64>,
    /// Nothing, where it does not say both system and architecture.
    pub(crate) platform: Option<Platform>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) data: String,
    /// Where else its blob can be had.
    pub(crate) urls: Vec<String>,
    written: Object,
}

/// Its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    media_type: String,
    digest: String,
    artifact_type: String,
    size: Option<u64>,
    platform: PlatformFields,
    annotations: BTreeMap<String, String>,
    data: String,
    urls: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlatformFields {
    os: String,
    architecture: String,
    variant: String,
}

impl Descriptor {
    /// What a descriptor would say of a document that nobody described.
    pub(crate) fn of(media_type: String, digest: &Digest, size: u64) -> Self {
        let mut written = Object::default();
        written.set("mediaType", &media_type);
        written.set("digest", digest);
        written.set("size", &size);
        Self { media_type, digest: digest.to_string(), size: Some(size), written, ..Self::default() }
    }

    /// Whether it is of an attestation, which is not an image although it lies among them.
    pub(crate) fn is_attestation(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        let refers = !self.artifact_type.is_empty() && MediaType::of(&self.artifact_type) != MediaType::Config;
        self.annotations.contains_key(ATTESTATION) || unknown || refers
    }

    /// As it is written.
    pub(crate) fn written(&self) -> &Object {
        &self.written
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = String;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a descriptor")
            }

            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }
        let text = deserializer.deserialize_newtype_struct(go::TEXT, Text)?;
        let fields: Fields = read(text.as_bytes()).map_err(D::Error::custom)?;
        let raw: &RawValue = serde_json::from_str(&text).map_err(D::Error::custom)?;
        let PlatformFields { os, architecture, variant } = fields.platform;
        let is_stated = !os.is_empty() && !architecture.is_empty();
        Ok(Self {
            media_type: fields.media_type,
            digest: fields.digest,
            artifact_type: fields.artifact_type,
            size: fields.size,
            platform: is_stated.then(|| Platform::of(&os, &architecture, &variant)),
            annotations: fields.annotations,
            data: fields.data,
            urls: fields.urls,
            written: Object::of(raw).map_err(D::Error::custom)?,
        })
    }
}
