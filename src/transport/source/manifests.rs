//! From a descriptor to an image: down through indexes to the manifest of the wanted platform, its configuration and
//! its layers. The same for every place that keeps blobs by their digests.

use crate::core::chain::Context;
use crate::transport::source::{Index, OpenOptions, SourceError, Tree, artifact, incomplete, json};
use base64::Engine;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::image::document::Object;
use crate::image::{Config, Descriptor, Document, Image, Layer, Manifest, MediaType, Notice};
use crate::transport::registry::error::is_not_found;
use crate::transport::source::artifact::ArtifactKind;
use crate::transport::source::choose::{Chosen, MOST_NESTED, choose};

/// A place that keeps blobs by their digests.
pub(in crate::transport) trait Content {
    /// The blob of a digest, without stated size and digest.
    fn find(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Blob, SourceError>;

    /// The blob that a descriptor is of: what it holds itself, or what the place has.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let digest = digest(&descriptor.digest)?;
        let blob = match descriptor.data.as_str() {
            "" => self.find(descriptor, &digest)?,
            data => {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| SourceError::Json {
                        name: descriptor.digest.clone(),
                        error: Context::new("the data in its descriptor is not base64", error).into(),
                    })?;
                Blob::from_bytes(bytes)
            }
        };
        Ok(blob.stated(Some(digest), descriptor.size))
    }

    /// All bytes of a manifest, an index or a configuration, checked against its descriptor.
    fn document(&self, descriptor: &Descriptor, options: &OpenOptions) -> Result<Vec<u8>, SourceError> {
        self.blob(descriptor)?
            .read_all(options.limits.metadata_size)
            .map_err(|error| SourceError::Blob { name: descriptor.digest.clone(), error })
    }
}

/// Opens the image that suits best among several descriptors.
pub(in crate::transport) fn open(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    name: Option<String>,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let chosen = choose(content, candidates, options)?;
    Ok(Image { name, ..image(content, chosen, options)? })
}

/// As [`open`], but what is not an image is opened, too, to be handed on as it is.
pub(in crate::transport) fn open_any(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    name: Option<String>,
    options: &OpenOptions,
) -> Result<Tree, SourceError> {
    let chosen = choose(content, candidates, options)?;
    if artifact::kind(content, &chosen.document, options)? != ArtifactKind::Image {
        return Ok(Tree::Attachment(artifact::attachment(content, chosen.manifest, &chosen.document)?));
    }
    Ok(Tree::Image(Image { name, ..image(content, chosen, options)? }.into()))
}

/// The manifest or index that descriptors lead to, as it is stored. Where a platform is asked for, or there are
/// several, it is one image's.
pub(in crate::transport) fn raw(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    options: &OpenOptions,
) -> Result<Manifest, SourceError> {
    match candidates.as_slice() {
        [only] if options.platform.is_none() => Ok(read(content, only, options)?.0),
        _ => Ok(choose(content, candidates, options)?.manifest),
    }
}

/// The descriptors that can be images; all of them if none can.
pub(in crate::transport) fn without_attachments(descriptors: Vec<Descriptor>) -> Vec<Descriptor> {
    match descriptors.iter().any(|entry| !entry.is_attestation()) {
        true => descriptors.into_iter().filter(|entry| !entry.is_attestation()).collect(),
        false => descriptors,
    }
}

/// Reads the manifest or index that a descriptor is of.
pub(in crate::transport) fn read(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
) -> Result<(Manifest, Document), SourceError> {
    let stated = MediaType::of(&descriptor.media_type);
    match stated {
        MediaType::Manifest | MediaType::Index | MediaType::Artifact => {}
        MediaType::Schema1 => return Err(schema_1(&descriptor.digest)),
        // Some writers leave it out, or say what is true of any file; the document tells.
        MediaType::Generic => {}
        _ => {
            let problem = format!("is of type {:?}, which is not an image", descriptor.media_type);
            return Err(SourceError::Unsupported { name: descriptor.digest.clone(), problem });
        }
    }
    // A place that keeps manifests apart is to know what is asked for, where the descriptor does not say it.
    let mut asked = descriptor.clone();
    if stated == MediaType::Generic {
        MediaType::OCI_MANIFEST.clone_into(&mut asked.media_type);
    }
    let bytes = content.document(&asked, options)?;
    let document: Document = json(&descriptor.digest, &bytes)?;
    if document.schema_version == 1 {
        return Err(schema_1(&descriptor.digest));
    }
    let is_index = document.manifests.is_some();
    let is_manifest = document.config.is_some() || document.layers.is_some();
    let wrong =
        |problem: &str| Err(SourceError::Unsupported { name: descriptor.digest.clone(), problem: problem.to_owned() });
    // One reader would take it for the one, another for the other (CVE-2021-41190).
    match (stated, is_index, is_manifest) {
        (_, true, true) => wrong("is a manifest and an index at once, which is not allowed"),
        (MediaType::Manifest, true, false) => wrong("is an index, but its descriptor states that it is a manifest"),
        (MediaType::Index, false, true) => wrong("is a manifest, but its descriptor states that it is an index"),
        _ => {
            let unsaid = if is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
            let said = [&descriptor.media_type, &document.media_type];
            let known = said.iter().find(|said| MediaType::of(said) != MediaType::Generic);
            let media_type = known.map_or(unsaid, |known| known.as_str()).to_owned();
            Ok((Manifest { digest: digest(&descriptor.digest)?, media_type, bytes }, document))
        }
    }
}

/// All that a descriptor leads to: an image, or an index with everything that it lists. Several descriptors are the
/// entries of an index that nobody has written down yet.
pub(in crate::transport) fn tree(
    content: &dyn Content,
    mut candidates: Vec<Descriptor>,
    name: Option<String>,
    options: &OpenOptions,
) -> Result<Tree, SourceError> {
    if candidates.len() == 1
        && let Some(only) = candidates.pop()
    {
        let mut tree = branch(content, &only, options, 0)?;
        if let Tree::Image(image) = &mut tree {
            image.name = name;
        }
        return Ok(tree);
    }
    let mut written = Object::index();
    written.set("manifests", &candidates.iter().map(Descriptor::written).collect::<Vec<_>>());
    let bytes = written.to_bytes();
    let document = Manifest { digest: Digest::sha256_of(&bytes), media_type: MediaType::OCI_INDEX.to_owned(), bytes };
    let entries = candidates.iter().map(|entry| branch(content, entry, options, 1)).collect::<Result<_, _>>()?;
    Ok(Tree::Index(Index { document, entries }))
}

/// Follows a descriptor without opening images, for copying unchanged bytes.
pub(in crate::transport) fn as_is(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
) -> Result<Tree, SourceError> {
    let (manifest, document) = read(content, descriptor, options)?;
    match &document.manifests {
        Some(listed) => {
            let entries = listed.iter().map(|entry| branch(content, entry, options, 1)).collect::<Result<_, _>>()?;
            Ok(Tree::Index(Index { document: manifest, entries }))
        }
        None => Ok(Tree::Attachment(artifact::attachment(content, manifest, &document)?)),
    }
}

/// The `subject` of a manifest, if it has one.
pub(in crate::transport) fn subject(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
) -> Result<Option<String>, SourceError> {
    Ok(read(content, descriptor, options)?.1.subject.map(|subject| subject.digest))
}

/// Whether a name is the tag of an index of what refers to a manifest.
pub(in crate::transport) fn is_of_referrers(name: &str) -> bool {
    name.split_once('-').is_some_and(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
}

fn branch(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
    depth: usize,
) -> Result<Tree, SourceError> {
    if depth > MOST_NESTED {
        return Err(SourceError::NestedTooDeep(MOST_NESTED));
    }
    let (manifest, document) = read(content, descriptor, options)?;
    if let Some(listed) = document.manifests {
        let entries =
            listed.iter().map(|entry| branch(content, entry, options, depth + 1)).collect::<Result<_, _>>()?;
        return Ok(Tree::Index(Index { document: manifest, entries }));
    }
    if !descriptor.is_attestation() && artifact::kind(content, &document, options)? == ArtifactKind::Image {
        let chosen = Chosen { manifest, document, described: descriptor.platform.clone(), config: None };
        return Ok(Tree::Image(image(content, chosen, options)?.into()));
    }
    Ok(Tree::Attachment(artifact::attachment(content, manifest, &document)?))
}

fn schema_1(digest: &str) -> SourceError {
    let problem =
        "is a Docker manifest of schema 1, which was given up in 2017: pull the image with an engine and save it again";
    SourceError::Unsupported { name: digest.to_owned(), problem: problem.to_owned() }
}

/// The configuration that a manifest names.
pub(in crate::transport) fn read_config(
    content: &dyn Content,
    manifest: &Manifest,
    document: &Document,
    options: &OpenOptions,
) -> Result<Config, SourceError> {
    let no_image = |problem: String| Err(SourceError::Unsupported { name: manifest.digest.to_string(), problem });
    if document.config.is_none() && document.artifact_type.is_empty() && document.blobs.is_none() {
        return no_image("is a manifest without a configuration, which is not an image".to_owned());
    }
    let is_artifact = artifact::kind(content, document, options)? == ArtifactKind::Artifact;
    let Some(config) = document.config.as_ref().filter(|_| !is_artifact) else {
        let (name, what) = (manifest.digest.to_string(), artifact::describe(document));
        return Err(SourceError::Artifact { name, what });
    };
    if !matches!(MediaType::of(&document.media_type), MediaType::Manifest | MediaType::Generic) {
        return no_image(format!("states that it is {:?}, which is not an image manifest", document.media_type));
    }
    Ok(Config::parse(content.document(config, options)?)?.known_as(digest(&config.digest)?))
}

fn image(content: &dyn Content, chosen: Chosen, options: &OpenOptions) -> Result<Image, SourceError> {
    let Chosen { manifest, document, described, config } = chosen;
    let config = match config {
        Some(config) => config,
        None => read_config(content, &manifest, &document, options)?,
    };
    let mut notices = Vec::new();
    let described_config = document.config.as_ref().map(|config| config.media_type.as_str()).unwrap_or_default();
    if MediaType::of(described_config) != MediaType::Config {
        notices.push(Notice::MediaType {
            what: format!("the configuration {}", config.digest),
            media_type: described_config.to_owned(),
        });
    }
    if let Some(described) = described.filter(|described| described.suits(&config.platform()).is_none()) {
        notices.push(Notice::Platform { described, stated: config.platform() });
    }
    let descriptors = document.layers.unwrap_or_default();
    // The media type is checked first: "encrypted" explains more than "its file is missing".
    for layer in &descriptors {
        let problem = match MediaType::of(&layer.media_type) {
            MediaType::Layer | MediaType::ForeignLayer => continue,
            MediaType::Generic => {
                let (what, media_type) = (format!("layer {}", layer.digest), layer.media_type.clone());
                notices.push(Notice::MediaType { what, media_type });
                continue;
            }
            MediaType::EncryptedLayer => {
                "is an encrypted layer; decrypt the image first, for instance with skopeo".to_owned()
            }
            _ => format!("is a layer of the unknown media type {:?}", layer.media_type),
        };
        return Err(SourceError::Unsupported { name: layer.digest.clone(), problem });
    }
    let diff_ids = if config.parsed.rootfs.diff_ids.is_empty() && !descriptors.is_empty() {
        notices.push(Notice::NoDiffIds);
        vec![None; descriptors.len()]
    } else {
        incomplete::diff_ids(&config, descriptors.len(), options)?
    };
    let mut layers = Vec::new();
    for (descriptor, diff_id) in descriptors.into_iter().zip(diff_ids) {
        let stated = Some(digest(&descriptor.digest)?);
        let blob = match content.blob(&descriptor) {
            found if MediaType::of(&descriptor.media_type) != MediaType::ForeignLayer => {
                incomplete::blob(found, stated, descriptor.size, options)?
            }
            Err(error) if is_missing(&error) => incomplete::not_distributed(&descriptor, stated, options)?,
            found => {
                notices.push(Notice::NonDistributable { layer: descriptor.digest.clone() });
                found?
            }
        };
        let media_type = Some(descriptor.media_type).filter(|said| !said.is_empty());
        layers.push(Layer { media_type, urls: descriptor.urls, ..Layer::bare(blob) }.with_diff_id(diff_id));
    }
    Ok(Image { name: None, manifest: Some(manifest), config: Some(config), layers, notices })
}

fn is_missing(error: &SourceError) -> bool {
    matches!(error, SourceError::Missing(_)) || is_not_found(error)
}

fn digest(text: &str) -> Result<Digest, SourceError> {
    text.parse().map_err(|error: crate::core::digest::DigestError| SourceError::Json {
        name: "a descriptor".to_owned(),
        error: error.into(),
    })
}
