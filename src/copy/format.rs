//! Manifests in Docker's words (schema 2, and lists of manifests), for registries that know no others.
//!
//! Blobs stay as they are, and so do their digests: only the documents that name them are written anew. What Docker's documents have no place for
//! is said.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::finish::Done;
use super::{CopyError, manifest};
use crate::blob::{Compression, Digest};
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

/// The same in Docker's words, and what was lost.
pub(super) fn in_docker_words(done: &Done) -> Result<(Done, Vec<String>), CopyError> {
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
    /// What the index lists, in OCI's words.
    listed: &'a [Manifest],
    /// The same in Docker's.
    made: Vec<Manifest>,
    lost: BTreeSet<String>,
    notes: Vec<String>,
}

impl Converter<'_> {
    fn convert(&mut self, manifest: &Manifest) -> Result<Manifest, CopyError> {
        let value = manifest::parse(manifest)?;
        let is_index = value["manifests"].is_array();
        if is_index {
            return self.index(manifest, &value);
        }
        if manifest::is_in_docker_words(manifest) {
            return Ok(manifest.clone());
        }
        self.manifest(manifest, &value)
    }

    fn manifest(&mut self, manifest: &Manifest, value: &Value) -> Result<Manifest, CopyError> {
        let config = &value["config"];
        let said = config["mediaType"].as_str().unwrap_or_default();
        if MediaType::of(said) != MediaType::Config {
            let problem = "is an artifact, and only images can be written in Docker's words".to_owned();
            return Err(CopyError::Document { name: manifest.digest.to_string(), problem });
        }
        for (what, there) in [
            ("the manifest's annotations", value.get("annotations")),
            ("its subject", value.get("subject")),
            ("its artifactType", value.get("artifactType")),
            ("the configuration's annotations", config.get("annotations")),
        ] {
            self.lose(what, there);
        }
        let mut layers = Vec::new();
        for layer in value["layers"].as_array().into_iter().flatten() {
            self.lose("layers' annotations", layer.get("annotations"));
            let media_type = layer_type(layer)?;
            layers.push(descriptor(media_type, layer, &["urls"]));
        }
        Ok(manifest::made(
            MediaType::DOCKER_MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST,
                "config": descriptor(MediaType::DOCKER_CONFIG, config, &[]), "layers": layers,
            }),
        ))
    }

    fn index(&mut self, index: &Manifest, value: &Value) -> Result<Manifest, CopyError> {
        self.lose("the index's annotations", value.get("annotations"));
        self.lose("its subject", value.get("subject"));
        let mut entries = Vec::new();
        let mut is_changed = !manifest::is_in_docker_words(index);
        for entry in value["manifests"].as_array().into_iter().flatten() {
            let digest = entry["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
            let listed = digest.and_then(|digest| self.listed.iter().find(|listed| listed.digest == digest));
            let missing = || CopyError::Document {
                name: index.digest.to_string(),
                problem: format!("lists {}, which is not there", entry["digest"]),
            };
            let listed = listed.ok_or_else(missing)?;
            if !is_convertible(listed)? {
                self.notes
                    .push(format!("left out {}: it is not an image, and has no form in Docker's words", listed.digest));
                is_changed = true;
                continue;
            }
            let now = self.convert(listed)?;
            is_changed |= now.digest != listed.digest;
            self.lose("annotations in the index", entry.get("annotations"));
            let mut described = json!({
                "mediaType": now.media_type, "size": now.bytes.len(), "digest": now.digest,
            });
            if let Some(platform) = entry.get("platform") {
                described["platform"] = platform.clone();
            }
            entries.push(described);
            if !self.made.contains(&now) {
                self.made.push(now);
            }
        }
        if !is_changed {
            self.lost.clear();
            return Ok(index.clone());
        }
        Ok(manifest::made(
            MediaType::DOCKER_LIST,
            &json!({"schemaVersion": 2, "mediaType": MediaType::DOCKER_LIST, "manifests": entries}),
        ))
    }

    fn lose(&mut self, what: &str, value: Option<&Value>) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(fields)) if fields.is_empty() => {}
            // Annotations by their names; what else is lost is one thing.
            Some(Value::Object(fields)) if what.contains("annotations") => {
                let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
                self.lost.insert(format!("{what} ({})", keys.join(", ")));
            }
            Some(_) => drop(self.lost.insert(what.to_owned())),
        }
    }
}

/// Whether it is an image's manifest or an index.
fn is_convertible(listed: &Manifest) -> Result<bool, CopyError> {
    let value = manifest::parse(listed)?;
    let config = value["config"]["mediaType"].as_str().unwrap_or_default();
    let layers = value["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_tar = |layer: &Value| {
        let said = MediaType::of(layer["mediaType"].as_str().unwrap_or_default());
        matches!(said, MediaType::Layer | MediaType::ForeignLayer)
    };
    Ok(value["manifests"].is_array() || (MediaType::of(config) == MediaType::Config && layers.iter().all(is_tar)))
}

fn layer_type(layer: &Value) -> Result<&'static str, CopyError> {
    let said = layer["mediaType"].as_str().unwrap_or_default();
    match (MediaType::of(said), stated_compression(said)) {
        (MediaType::ForeignLayer, _) => Ok(MediaType::DOCKER_FOREIGN_LAYER),
        (_, Some(Compression::None)) => Ok(MediaType::DOCKER_LAYER),
        (_, Some(Compression::Gzip)) => Ok(MediaType::DOCKER_LAYER_GZIP),
        (_, found) => {
            let name = format!("layer {}", layer["digest"].as_str().unwrap_or_default());
            let problem = match found {
                Some(compression) => format!(
                    "is compressed with {}, for which Docker's manifests have no media type: give --format docker, \
                     which compresses it with gzip",
                    compression.name()
                ),
                None => format!("is of type {said:?}, which Docker's manifests do not have"),
            };
            Err(CopyError::Document { name, problem })
        }
    }
}

/// A descriptor as Docker writes it, with those of the other fields that it has.
fn descriptor(media_type: &str, of: &Value, others: &[&str]) -> Value {
    let mut fields = Map::new();
    fields.insert("mediaType".to_owned(), media_type.into());
    for name in ["size", "digest"].iter().chain(others) {
        if let Some(value) = of.get(*name).filter(|value| !value.is_null()) {
            fields.insert((*name).to_owned(), value.clone());
        }
    }
    Value::Object(fields)
}
