//! What a manifest is of. Registries hold more than images: signatures, attestations, Helm charts, whatever somebody
//! has given a media type. Such an artifact has no file system, and is copied as it is.

use crate::image::{Config, Descriptor, Document, Manifest, MediaType};
use crate::transport::source::manifests::Content;
use crate::transport::source::{Attachment, OpenOptions, SourceError};

/// What stands for a configuration where there is none (image specification, manifest.md, "Guidance for an Empty
/// Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Names of artifacts, by a part of their media types. The first match counts.
const KINDS: [(&str, &str); 16] = [
    ("vnd.cncf.helm.", "a Helm chart"),
    ("vnd.dev.cosign.simplesigning", "a cosign signature"),
    ("vnd.dev.cosign.artifact.sig", "a cosign signature"),
    ("vnd.dev.sigstore.bundle", "a Sigstore signature"),
    ("vnd.cncf.notary.signature", "a Notary signature"),
    ("vnd.dsse.envelope", "an attestation"),
    ("vnd.in-toto", "an attestation"),
    ("spdx", "an SBOM"),
    ("cyclonedx", "an SBOM"),
    ("vnd.syft", "an SBOM"),
    ("vnd.wasm", "a WebAssembly module"),
    ("application/wasm", "a WebAssembly module"),
    ("vnd.docker.plugin", "a Docker plugin"),
    ("vnd.sylabs.sif", "a Singularity image"),
    ("vnd.cncf.flux", "a Flux artifact"),
    ("vnd.buildkit.cacheconfig", "a build cache"),
];

/// What a manifest describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum ArtifactKind {
    /// An image that can be read.
    Image,
    /// An image with layers that cannot: encrypted ones, or of a compression that is not known.
    Sealed,
    /// Something else.
    Artifact,
}

/// Tells what a manifest is of: by its media types, and where those say nothing by its configuration.
pub(in crate::transport) fn kind(
    content: &dyn Content,
    document: &Document,
    options: &OpenOptions,
) -> Result<ArtifactKind, SourceError> {
    let Some(config) = &document.config else { return Ok(ArtifactKind::Artifact) };
    let layers = document.layers.as_deref().unwrap_or_default();
    // What says what it is of has types of its own for it; words that say nothing are no layer's there.
    let may_be_any = |said: &str| document.artifact_type.is_empty() && MediaType::of(said) == MediaType::Generic;
    let is_layer = |layer: &Descriptor| looks_like_a_layer(&layer.media_type) || may_be_any(&layer.media_type);
    match MediaType::of(&config.media_type) {
        MediaType::Config if layers.is_empty() => Ok(ArtifactKind::Image),
        MediaType::Config if !layers.iter().any(is_layer) => Ok(ArtifactKind::Artifact),
        MediaType::Config => Ok(sealed(layers)),
        // Registries and old clients call it anything. Where all layers are an image's, it may be one.
        said @ (MediaType::Generic | MediaType::Unknown)
            if document.artifact_type.is_empty()
                && config.media_type != EMPTY
                && !layers.is_empty()
                && layers.iter().all(is_layer)
                && config.size.is_none_or(|size| size <= options.limits.metadata_size) =>
        {
            let parsed = Config::parse(content.document(config, options)?);
            let fits = parsed.is_ok_and(|config| match said {
                // Words that say nothing do not speak against an image whose numbers of layers disagree: that is told
                // as it is.
                MediaType::Generic => !config.parsed.rootfs.diff_ids.is_empty(),
                _ => config.diff_ids(layers.len()).is_ok(),
            });
            Ok(if fits { sealed(layers) } else { ArtifactKind::Artifact })
        }
        _ => Ok(ArtifactKind::Artifact),
    }
}

fn sealed(layers: &[Descriptor]) -> ArtifactKind {
    let is_sealed =
        |layer: &Descriptor| matches!(MediaType::of(&layer.media_type), MediaType::EncryptedLayer | MediaType::Unknown);
    if layers.iter().any(is_sealed) { ArtifactKind::Sealed } else { ArtifactKind::Image }
}

/// Whether it is a tar archive of an image, though perhaps not one that can be read.
fn looks_like_a_layer(media_type: &str) -> bool {
    let known = MediaType::of(media_type);
    matches!(known, MediaType::Layer | MediaType::ForeignLayer | MediaType::EncryptedLayer)
        || media_type.is_empty()
        || media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// What people call an artifact, with the media type that says so.
pub(in crate::transport) fn describe(document: &Document) -> String {
    let config = document.config.as_ref().map(|config| config.media_type.as_str());
    let config = config.filter(|&said| said != EMPTY && MediaType::of(said) != MediaType::Config);
    let blobs = document.layers.iter().chain(&document.blobs).flatten().map(|blob| blob.media_type.as_str());
    let types: Vec<&str> = std::iter::once(document.artifact_type.as_str()).chain(config).chain(blobs).collect();
    let types: Vec<&str> = types.into_iter().filter(|said| !said.is_empty()).collect();
    let known = KINDS.iter().find_map(|(part, name)| {
        types.iter().find(|said| said.to_ascii_lowercase().contains(part)).map(|said| (*name, *said))
    });
    match known.or_else(|| types.first().map(|said| ("an artifact", *said))) {
        Some((name, said)) => format!("{name} ({said})"),
        None => "an artifact".to_owned(),
    }
}

/// A manifest of anything, with all that it names.
pub(in crate::transport) fn attachment(
    content: &dyn Content,
    manifest: Manifest,
    document: &Document,
) -> Result<Attachment, SourceError> {
    let named = document.config.iter().chain(document.layers.iter().chain(&document.blobs).flatten());
    let blobs = named.map(|descriptor| content.blob(descriptor)).collect::<Result<_, _>>()?;
    Ok(Attachment { manifest, kind: describe(document), blobs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::document;

    #[test]
    fn artifacts_are_called_what_people_call_them() {
        for (document, expected) in [
            (
                r#"{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":""}}"#,
                "a Helm chart (application/vnd.cncf.helm.config.v1+json)",
            ),
            (
                r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":""},
                    "layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":""}]}"#,
                "a cosign signature (application/vnd.dev.cosign.simplesigning.v1+json)",
            ),
            (
                r#"{"artifactType":"text/x-mine","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":""}}"#,
                "an artifact (text/x-mine)",
            ),
            (r#"{"blobs":[{"mediaType":"application/spdx+json","digest":""}]}"#, "an SBOM (application/spdx+json)"),
            ("{}", "an artifact"),
        ] {
            let document: Document = document::read(document.as_bytes()).unwrap();
            assert_eq!(describe(&document), expected);
        }
    }
}
