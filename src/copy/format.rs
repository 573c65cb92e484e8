//! Converts manifests to Docker's format (schema 2 and manifest lists), for registries that accept no other.
//!
//! Blobs stay as they are, and so do their digests: only the documents that name them are written anew. What Docker's
//! documents have no place for is said.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::finish::Done;
use super::{CopyError, manifest};
use crate::blob::Compression;
use crate::core::digest::Digest;
use crate::image::document::Object;
use crate::image::{Manifest, MediaType, stated_compression};

/// In which words manifests are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As they are; in Docker's, where a registry takes no other.
    #[default]
    Auto,
    /// In OCI's.
    Oci,
    /// In Docker's.
    Docker,
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a format: expected auto, oci or docker")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "auto" => Ok(Self::Auto),
            "oci" => Ok(Self::Oci),
            // As skopeo calls it.
            "docker" | "v2s2" => Ok(Self::Docker),
            other => Err(FormatError(other.to_owned())),
        }
    }
}

/// Converts an image to Docker's format. Returns what was lost, too.
pub(super) fn to_docker(done: &Done) -> Result<(Done, Vec<String>), CopyError> {
    let mut converter = Converter { listed: &done.listed, made: Vec::new(), lost: BTreeSet::new(), notes: Vec::new() };
    let manifest = match &done.manifest {
        Some(manifest) => Some(converter.convert(manifest)?),
        None => None,
    };
    let mut notes = converter.notes;
    if !converter.lost.is_empty() {
        let lost: Vec<String> = converter.lost.into_iter().collect();
        notes.push(format!("Docker's manifests have no place for these, which are left out: {}", lost.join(", ")));
    }
    Ok((Done { manifest, listed: converter.made, saved: done.saved.clone() }, notes))
}

/// Whether a layer of this compression has a media type in Docker's words.
pub(super) fn has_layers_of(compression: Compression) -> bool {
    matches!(compression, Compression::None | Compression::Gzip)
}

struct Converter<'a> {
    /// The manifests of the index, in OCI format.
    listed: &'a [Manifest],
    /// The manifests in Docker's format.
    made: Vec<Manifest>,
    lost: BTreeSet<String>,
    notes: Vec<String>,
}

impl Converter<'_> {
    fn convert(&mut self, manifest: &Manifest) -> Result<Manifest, CopyError> {
        let value = manifest::parse(manifest)?;
        if value.get("manifests").is_some() {
            return self.index(manifest, &value);
        }
        if manifest::is_in_docker_words(manifest) {
            return Ok(manifest.clone());
        }
        self.manifest(manifest, &value)
    }

    fn manifest(&mut self, manifest: &Manifest, value: &Object) -> Result<Manifest, CopyError> {
        let config = value.object("config");
        let said = config.string("mediaType").unwrap_or_default();
        if MediaType::of(&said) != MediaType::Config {
            let error = "it is an artifact, and only images can be written in Docker's format".into();
            return Err(CopyError::Document { name: manifest.digest.to_string(), error });
        }
        self.lose_annotations("the manifest's annotations", value);
        self.lose("its subject", value, "subject");
        self.lose("its artifactType", value, "artifactType");
        self.lose_annotations("the configuration's annotations", &config);
        let mut layers = Vec::new();
        for layer in value.objects("layers") {
            self.lose_annotations("layers' annotations", &layer);
            layers.push(descriptor(layer_type(&layer)?, &layer, &["urls"]));
        }
        let mut made = Object::default();
        made.set("schemaVersion", &2);
        made.set("mediaType", MediaType::DOCKER_MANIFEST);
        made.set("config", &descriptor(MediaType::DOCKER_CONFIG, &config, &[]));
        made.set("layers", &layers);
        Ok(manifest::made(MediaType::DOCKER_MANIFEST, &made))
    }

    fn index(&mut self, index: &Manifest, value: &Object) -> Result<Manifest, CopyError> {
        self.lose_annotations("the index's annotations", value);
        self.lose("its subject", value, "subject");
        let mut entries = Vec::new();
        let mut is_changed = !manifest::is_in_docker_words(index);
        for mut entry in value.objects("manifests") {
            let text = entry.string("digest").unwrap_or_default();
            let digest = text.parse::<Digest>().ok();
            let listed = digest.and_then(|digest| self.listed.iter().find(|listed| listed.digest == digest));
            let missing = || CopyError::Document {
                name: index.digest.to_string(),
                error: format!("it lists {text:?}, which is not there").into(),
            };
            let listed = listed.ok_or_else(missing)?;
            if !is_convertible(listed)? {
                self.notes
                    .push(format!("left out {}: it is not an image, so Docker's format cannot hold it", listed.digest));
                is_changed = true;
                continue;
            }
            let now = self.convert(listed)?;
            is_changed |= now.digest != listed.digest;
            self.lose_annotations("annotations in the index", &entry);
            entry.set("size", &now.bytes.len());
            entry.set("digest", &now.digest);
            entries.push(descriptor(&now.media_type, &entry, &["platform"]));
            if !self.made.contains(&now) {
                self.made.push(now);
            }
        }
        if !is_changed {
            self.lost.clear();
            return Ok(index.clone());
        }
        let mut made = Object::default();
        made.set("schemaVersion", &2);
        made.set("mediaType", MediaType::DOCKER_LIST);
        made.set("manifests", &entries);
        Ok(manifest::made(MediaType::DOCKER_LIST, &made))
    }

    fn lose(&mut self, what: &str, of: &Object, field: &str) {
        if of.get(field).is_some() {
            self.lost.insert(what.to_owned());
        }
    }

    /// Annotations are told by their names.
    fn lose_annotations(&mut self, what: &str, of: &Object) {
        let annotations = of.object("annotations");
        if !annotations.is_empty() {
            let keys: Vec<&str> = annotations.keys().collect();
            self.lost.insert(format!("{what} ({})", keys.join(", ")));
        }
    }
}

/// Whether it is an image's manifest or an index.
fn is_convertible(listed: &Manifest) -> Result<bool, CopyError> {
    let value = manifest::parse(listed)?;
    let config = value.object("config").string("mediaType").unwrap_or_default();
    let is_tar = |layer: &Object| {
        let said = layer.string("mediaType").unwrap_or_default();
        matches!(MediaType::of(&said), MediaType::Layer | MediaType::ForeignLayer)
    };
    let is_image = MediaType::of(&config) == MediaType::Config && value.objects("layers").iter().all(is_tar);
    Ok(value.get("manifests").is_some() || is_image)
}

fn layer_type(layer: &Object) -> Result<&'static str, CopyError> {
    let said = layer.string("mediaType").unwrap_or_default();
    match (MediaType::of(&said), stated_compression(&said)) {
        (MediaType::ForeignLayer, _) => Ok(MediaType::DOCKER_FOREIGN_LAYER),
        (_, Some(Compression::None)) => Ok(MediaType::DOCKER_LAYER),
        (_, Some(Compression::Gzip)) => Ok(MediaType::DOCKER_LAYER_GZIP),
        (_, found) => {
            let layer = format!("layer {}", layer.string("digest").unwrap_or_default());
            Err(match found {
                Some(compression) => CopyError::LayerNotInDocker { layer, compression: compression.name() },
                None => {
                    let problem = format!("its type is {said:?}, which Docker's manifests do not have");
                    CopyError::Document { name: layer, error: problem.into() }
                }
            })
        }
    }
}

/// A descriptor as Docker writes it, with those of the other fields that it has.
fn descriptor(media_type: &str, of: &Object, others: &[&str]) -> Object {
    let mut fields = Object::default();
    fields.set("mediaType", media_type);
    for name in ["size", "digest"].iter().chain(others) {
        if let Some(value) = of.get(name) {
            fields.set(name, value);
        }
    }
    fields
}
