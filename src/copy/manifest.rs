//! Documents made anew: manifests, indexes and configurations of images whose blobs are no longer what they were.
//!
//! What is made is OCI's. What a document says beyond what had to change stays.

use serde_json::{Value, json};

use super::CopyError;
use super::transfer::Placed;
use crate::blob::Digest;
use crate::image::{Config, Image, Manifest, MediaType, Platform};

/// What annotations of a layer begin with that say where in its compressed bytes something is, and so hold for these bytes only.
const OF_STORED_BYTES: [&str; 3] =
    ["io.github.containers.zstd-chunked.", "io.containers.estargz.", "containerd.io/snapshot/stargz/"];
/// Which image an attestation in an index is of.
const REFERENCE: &str = "vnd.docker.reference.digest";

/// The configuration of an image with these layers: the image's own, changed as little as can be.
pub(super) fn config(image: &Image, diff_ids: &[Digest]) -> Result<Config, CopyError> {
    let wrong = |problem: String| CopyError::Document { name: "the image's configuration".to_owned(), problem };
    let bytes = match &image.config {
        Some(config) if config.diff_ids(diff_ids.len()).is_ok_and(|stated| stated == diff_ids) => {
            return Ok(config.clone());
        }
        Some(config) => {
            let mut value: Value = serde_json::from_slice(&config.bytes).map_err(|error| wrong(error.to_string()))?;
            value["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
            value.to_string()
        }
        // Bare layers: nothing is known but what they are.
        None => {
            let Platform { os, architecture, variant } = Platform::host();
            let mut value = json!({
                "os": os, "architecture": architecture, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
            });
            if let Some(variant) = variant {
                value["variant"] = variant.into();
            }
            value.to_string()
        }
    };
    Config::parse(bytes.into_bytes()).map_err(|error| wrong(error.to_string()))
}

/// Whether a manifest names this configuration and these layers, and so is still true.
pub(super) fn names(manifest: &Manifest, config: &Config, layers: &[&Placed]) -> Result<bool, CopyError> {
    let value = parse(manifest)?;
    let listed = value["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let same_layers = listed.len() == layers.len()
        && listed.iter().zip(layers).all(|(listed, placed)| listed["digest"] == json!(placed.digest));
    // The configuration may be named by another hash function than ours.
    let stated = value["config"]["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
    Ok(same_layers && stated.is_some_and(|stated| stated == Digest::of(stated.algorithm(), &config.bytes)))
}

/// The manifest of an image with this configuration and these layers.
pub(super) fn manifest(image: &Image, config: &Config, layers: &[&Placed]) -> Result<Manifest, CopyError> {
    let mut value = match &image.manifest {
        Some(manifest) => parse(manifest)?,
        None => json!({}),
    };
    value["schemaVersion"] = 2.into();
    value["mediaType"] = MediaType::OCI_MANIFEST.into();
    let old = value["config"].take();
    value["config"] = descriptor(old, MediaType::OCI_CONFIG, &config.digest, config.bytes.len() as u64);
    let old = value["layers"].take();
    let layer = |(index, placed): (usize, &&Placed)| {
        let said = image.layers[index].media_type.as_deref();
        let media_type = match placed.compression {
            Some(compression) => MediaType::oci_layer(compression).to_owned(),
            None => MediaType::in_oci_words(said.unwrap_or_default()),
        };
        descriptor(old.get(index).cloned().unwrap_or_default(), &media_type, &placed.digest, placed.size)
    };
    value["layers"] = layers.iter().enumerate().map(layer).collect();
    Ok(made(MediaType::OCI_MANIFEST, &value))
}

/// An index that lists these in the place of those.
pub(super) fn index(index: &Manifest, entries: &[(Digest, Manifest)]) -> Result<Manifest, CopyError> {
    let mut value = parse(index)?;
    value["mediaType"] = MediaType::OCI_INDEX.into();
    for (listed, (_, now)) in value["manifests"].as_array_mut().into_iter().flatten().zip(entries) {
        *listed = descriptor(listed.take(), &now.media_type, &now.digest, now.bytes.len() as u64);
        let image = listed.get_mut("annotations").and_then(|all| all.get_mut(REFERENCE));
        if let Some(image) = image
            && let Some((_, now)) = entries.iter().find(|(was, _)| image.as_str() == Some(was.to_string().as_str()))
        {
            *image = now.digest.to_string().into();
        }
    }
    Ok(made(MediaType::OCI_INDEX, &value))
}

/// Whether only Docker's own readers know what a document is.
pub(super) fn is_in_docker_words(manifest: &Manifest) -> bool {
    manifest.media_type != MediaType::in_oci_words(&manifest.media_type)
}

pub(super) fn made(media_type: &str, value: &Value) -> Manifest {
    let bytes = value.to_string().into_bytes();
    Manifest { digest: Digest::sha256_of(&bytes), media_type: media_type.to_owned(), bytes }
}

pub(super) fn parse(manifest: &Manifest) -> Result<Value, CopyError> {
    let value: Result<Value, _> = serde_json::from_slice(&manifest.bytes);
    let wrong = |problem: String| CopyError::Document { name: manifest.digest.to_string(), problem };
    match value {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(wrong("is no JSON object".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// A descriptor changed to be of something else; what else it says stays, but for what is only true of the old bytes.
fn descriptor(old: Value, media_type: &str, digest: &Digest, size: u64) -> Value {
    let mut value = if old.is_object() { old } else { json!({}) };
    let is_changed = value["digest"] != json!(digest);
    if let Some(fields) = value.as_object_mut()
        && is_changed
    {
        fields.remove("data");
        fields.remove("urls");
        if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !OF_STORED_BYTES.iter().any(|prefix| key.starts_with(prefix)));
        }
    }
    value["mediaType"] = media_type.into();
    value["digest"] = json!(digest);
    value["size"] = size.into();
    value
}
