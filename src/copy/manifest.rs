//! Rewrites manifests, indexes and configurations of images whose blobs changed.
//!
//! What is made is OCI's. What a document says beyond what had to change stays.

use super::CopyError;
use super::transfer::Placed;
use crate::core::chain::Cause;
use crate::core::digest::Digest;
use crate::image::document::{self, Document, Object};
use crate::image::{Config, Image, Manifest, MediaType};

/// What annotations of a layer begin with that say where in its compressed bytes something is, and so hold for these
/// bytes only.
const OF_STORED_BYTES: [&str; 3] =
    ["io.github.containers.zstd-chunked.", "io.containers.estargz.", "containerd.io/snapshot/stargz/"];
/// Which image an attestation in an index is of.
const REFERENCE: &str = "vnd.docker.reference.digest";

/// The configuration of an image with these layers: the image's own, changed as little as can be.
pub(super) fn config(image: &Image, diff_ids: &[Digest]) -> Result<Config, CopyError> {
    match &image.config {
        Some(config) => match config.diff_ids(diff_ids.len()) {
            Ok(stated) if stated == diff_ids => Ok(config.clone()),
            _ => config.with_diff_ids(diff_ids),
        },
        None => Config::of_bare_layers(diff_ids),
    }
    .map_err(|error| wrong(&"the image's configuration", error))
}

/// Whether a manifest names this configuration and these layers, and so is still true.
pub(super) fn names(manifest: &Manifest, config: &Config, layers: &[&Placed]) -> Result<bool, CopyError> {
    let document: Document = document::read(&manifest.bytes).map_err(|error| wrong(&manifest.digest, error))?;
    let listed = document.layers.unwrap_or_default();
    let same_layers = listed.len() == layers.len()
        && listed.iter().zip(layers).all(|(listed, placed)| listed.digest == placed.digest.to_string());
    Ok(same_layers && document.config.is_some_and(|stated| stated.digest == config.digest.to_string()))
}

/// The manifest of an image with this configuration and these layers.
pub(super) fn manifest(image: &Image, config: &Config, layers: &[&Placed]) -> Result<Manifest, CopyError> {
    let mut document = match &image.manifest {
        Some(manifest) => parse(manifest)?,
        None => Object::default(),
    };
    document.set("schemaVersion", &2);
    document.set("mediaType", MediaType::OCI_MANIFEST);
    let mut described = document.object("config");
    describe(&mut described, MediaType::OCI_CONFIG, &config.digest, config.bytes.len() as u64);
    document.set("config", &described);
    let mut described = document.objects("layers");
    described.resize_with(layers.len(), Object::default);
    for ((described, placed), layer) in described.iter_mut().zip(layers).zip(&image.layers) {
        let media_type = match placed.compression {
            Some(compression) => MediaType::oci_layer(compression).to_owned(),
            None => MediaType::to_oci(layer.media_type.as_deref().unwrap_or_default()),
        };
        describe(described, &media_type, &placed.digest, placed.size);
    }
    document.set("layers", &described);
    Ok(made(MediaType::OCI_MANIFEST, &document))
}

/// An index that lists these in the place of those.
pub(super) fn index(index: &Manifest, entries: &[(Digest, Manifest)]) -> Result<Manifest, CopyError> {
    let mut document = parse(index)?;
    document.set("mediaType", MediaType::OCI_INDEX);
    let mut listed = document.objects("manifests");
    for (listed, (_, now)) in listed.iter_mut().zip(entries) {
        describe(listed, &now.media_type, &now.digest, now.bytes.len() as u64);
        let mut annotations = listed.object("annotations");
        let image = annotations.value(REFERENCE);
        if let Some((_, now)) = entries.iter().find(|(was, _)| image.as_deref() == Some(was.to_string().as_str())) {
            annotations.set_value(REFERENCE, &now.digest);
            listed.set("annotations", &annotations);
        }
    }
    document.set("manifests", &listed);
    Ok(made(MediaType::OCI_INDEX, &document))
}

/// Whether only Docker's own readers know what a document is.
pub(super) fn is_in_docker_words(manifest: &Manifest) -> bool {
    manifest.media_type != MediaType::to_oci(&manifest.media_type)
}

pub(super) fn made(media_type: &str, document: &Object) -> Manifest {
    let bytes = document.to_bytes();
    Manifest { digest: Digest::sha256_of(&bytes), media_type: media_type.to_owned(), bytes }
}

pub(super) fn parse(manifest: &Manifest) -> Result<Object, CopyError> {
    Object::parse(&manifest.bytes).map_err(|error| wrong(&manifest.digest, error))
}

fn wrong(name: &dyn std::fmt::Display, error: impl Into<Cause>) -> CopyError {
    CopyError::Document { name: name.to_string(), error: error.into() }
}

/// Makes a descriptor one of something else; what else it says stays, but for what is only true of the old bytes.
fn describe(descriptor: &mut Object, media_type: &str, digest: &Digest, size: u64) {
    if descriptor.string("digest") != Some(digest.to_string()) {
        descriptor.remove("data");
        descriptor.remove("urls");
        let mut annotations = descriptor.object("annotations");
        if !annotations.is_empty() {
            annotations.retain_keys(|key| !OF_STORED_BYTES.iter().any(|prefix| key.starts_with(prefix)));
            descriptor.set("annotations", &annotations);
        }
    }
    descriptor.set("mediaType", media_type);
    descriptor.set("digest", digest);
    descriptor.set("size", &size);
}
