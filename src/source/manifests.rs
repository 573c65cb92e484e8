//! From a descriptor to an image: down through indexes to the manifest of the wanted platform, its configuration and its layers. The same for
//! every place that keeps blobs by their digests.

use base64::Engine;

use super::artifact::{self, Kind};
use super::{Index, OpenOptions, SourceError, Tree, check_platform, incomplete, json};
use crate::blob::{Blob, Digest};
use crate::image::{Config, Descriptor, Document, Image, Layer, Manifest, MediaType, Platform};

/// Indexes within indexes.
const MOST_NESTED: usize = 8;

/// A place that keeps blobs by their digests.
pub(super) trait Content {
    /// The blob of a digest, of which nothing is stated yet.
    fn find(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Blob, SourceError>;

    /// The blob that a descriptor is of: what it holds itself, or what the place has.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let digest = digest(&descriptor.digest)?;
        let blob = match &descriptor.data {
            Some(data) => {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| SourceError::Json {
                        name: descriptor.digest.clone(),
                        problem: format!("the data in its descriptor is no base64: {error}"),
                    })?;
                Blob::from_bytes(bytes)
            }
            None => self.find(descriptor, &digest)?,
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
pub(super) fn open(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    name: Option<String>,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let (manifest, document) = resolve(content, candidates, options, 0)?;
    let image = Image { name, ..image(content, manifest, document, options)? };
    check_platform(&image, options)?;
    Ok(image)
}

/// As [`open`], but what is no image is opened, too, to be handed on as it is.
pub(super) fn open_any(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    name: Option<String>,
    options: &OpenOptions,
) -> Result<Tree, SourceError> {
    let (manifest, document) = resolve(content, candidates, options, 0)?;
    if artifact::kind(content, &document, options)? != Kind::Image {
        return Ok(Tree::Attachment(artifact::attachment(content, manifest, &document)?));
    }
    let image = Image { name, ..image(content, manifest, document, options)? };
    check_platform(&image, options)?;
    Ok(Tree::Image(image.into()))
}

/// The manifest or index that descriptors lead to, as it is stored. Where a platform is asked for, or there are several, it is one image's.
pub(super) fn raw(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    options: &OpenOptions,
) -> Result<Manifest, SourceError> {
    match candidates.as_slice() {
        [only] if options.platform.is_none() => Ok(read(content, only, options)?.0),
        _ => Ok(resolve(content, candidates, options, 0)?.0),
    }
}

/// Goes down through indexes to the manifest of the wanted platform.
fn resolve(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    options: &OpenOptions,
    depth: usize,
) -> Result<(Manifest, Document), SourceError> {
    if depth > MOST_NESTED {
        return Err(SourceError::NestedTooDeep(MOST_NESTED));
    }
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let candidates = without_attachments(candidates);
    let mut suitable: Vec<(u32, Descriptor)> = Vec::new();
    let mut offered = Vec::new();
    for entry in &candidates {
        match &entry.platform {
            // Nothing is said: an index, or an image whose configuration will tell. What says that it suits goes first.
            None => suitable.push((u32::MAX, entry.clone())),
            Some(stated) => {
                let stated = Platform::from(stated);
                suitable.extend(wanted.suits(&stated).map(|rank| (rank, entry.clone())));
                offered.push(stated.to_string());
            }
        }
    }
    if let ([], [only]) = (suitable.as_slice(), candidates.as_slice())
        && options.platform.is_none()
    {
        // The only one there is, and nobody asked for another.
        suitable.push((0, only.clone()));
    }
    suitable.sort_by_key(|(rank, _)| *rank);
    for (_, descriptor) in suitable {
        match enter(content, descriptor, options, depth) {
            Err(SourceError::NoSuchPlatform { offered: inside, .. }) => offered.extend(inside),
            found => return found,
        }
    }
    Err(SourceError::NoSuchPlatform { wanted, offered })
}

/// Those that can be images. Where none can, that is what there is.
pub(super) fn without_attachments(descriptors: Vec<Descriptor>) -> Vec<Descriptor> {
    match descriptors.iter().any(|entry| !entry.is_attestation()) {
        true => descriptors.into_iter().filter(|entry| !entry.is_attestation()).collect(),
        false => descriptors,
    }
}

/// What a descriptor leads to: a manifest, or what an index has for the wanted platform.
fn enter(
    content: &dyn Content,
    descriptor: Descriptor,
    options: &OpenOptions,
    depth: usize,
) -> Result<(Manifest, Document), SourceError> {
    let (manifest, mut document) = read(content, &descriptor, options)?;
    match document.manifests.take() {
        Some(manifests) => resolve(content, manifests, options, depth + 1),
        None => Ok((manifest, document)),
    }
}

/// Reads the manifest or index that a descriptor is of.
fn read(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
) -> Result<(Manifest, Document), SourceError> {
    let stated = MediaType::of(&descriptor.media_type);
    match stated {
        MediaType::Manifest | MediaType::Index | MediaType::Artifact => {}
        MediaType::Schema1 => return Err(schema_1(&descriptor.digest)),
        // Some writers leave it out; the document tells.
        MediaType::Unknown if descriptor.media_type.is_empty() => {}
        _ => {
            let problem = format!("is of type {:?}, which is no image", descriptor.media_type);
            return Err(SourceError::Unsupported { name: descriptor.digest.clone(), problem });
        }
    }
    let bytes = content.document(descriptor, options)?;
    let document: Document = json(&descriptor.digest, &bytes)?;
    if document.schema_version == Some(1) {
        return Err(schema_1(&descriptor.digest));
    }
    let is_index = document.manifests.is_some();
    let is_manifest = document.config.is_some() || document.layers.is_some();
    let wrong =
        |problem: &str| Err(SourceError::Unsupported { name: descriptor.digest.clone(), problem: problem.to_owned() });
    // One reader would take it for the one, another for the other (CVE-2021-41190).
    match (stated, is_index, is_manifest) {
        (_, true, true) => wrong("is a manifest and an index at once, which is not allowed"),
        (MediaType::Manifest, true, false) => wrong("is an index, but its descriptor says that it is a manifest"),
        (MediaType::Index, false, true) => wrong("is a manifest, but its descriptor says that it is an index"),
        _ => {
            let said = Some(descriptor.media_type.clone()).filter(|said| !said.is_empty());
            let unsaid = || if is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST }.to_owned();
            let media_type = said.or_else(|| document.media_type.clone()).unwrap_or_else(unsaid);
            Ok((Manifest { digest: digest(&descriptor.digest)?, media_type, bytes }, document))
        }
    }
}

/// All that a descriptor leads to: an image, or an index with everything that it lists. Several descriptors are the entries of an index
/// that nobody has written down yet.
pub(super) fn tree(
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
    let bytes = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": candidates,
    }));
    let bytes =
        bytes.map_err(|error| SourceError::Json { name: "index.json".to_owned(), problem: error.to_string() })?;
    let document = Manifest { digest: Digest::sha256_of(&bytes), media_type: MediaType::OCI_INDEX.to_owned(), bytes };
    let entries = candidates.iter().map(|entry| branch(content, entry, options, 1)).collect::<Result<_, _>>()?;
    Ok(Tree::Index(Index { document, entries }))
}

/// What a descriptor leads to, to be handed on byte by byte: images are not looked into.
pub(super) fn as_is(
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

/// What a manifest refers to, if it refers to anything.
pub(super) fn subject(
    content: &dyn Content,
    descriptor: &Descriptor,
    options: &OpenOptions,
) -> Result<Option<String>, SourceError> {
    Ok(read(content, descriptor, options)?.1.subject.map(|subject| subject.digest))
}

/// Whether a name is the tag of an index of what refers to a manifest.
pub(super) fn is_of_referrers(name: &str) -> bool {
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
    if !descriptor.is_attestation() && artifact::kind(content, &document, options)? == Kind::Image {
        return Ok(Tree::Image(image(content, manifest, document, options)?.into()));
    }
    Ok(Tree::Attachment(artifact::attachment(content, manifest, &document)?))
}

fn schema_1(digest: &str) -> SourceError {
    let problem =
        "is a Docker manifest of schema 1, which was given up in 2017: pull the image with an engine and save it again";
    SourceError::Unsupported { name: digest.to_owned(), problem: problem.to_owned() }
}

fn image(
    content: &dyn Content,
    manifest: Manifest,
    document: Document,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let no_image = |problem: String| SourceError::Unsupported { name: manifest.digest.to_string(), problem };
    if document.config.is_none() && document.artifact_type.is_none() && document.blobs.is_none() {
        return Err(no_image("is a manifest without a configuration, which is not an image".to_owned()));
    }
    let is_artifact = artifact::kind(content, &document, options)? == Kind::Artifact;
    let Some(config) = document.config.as_ref().filter(|_| !is_artifact) else {
        let (name, what) = (manifest.digest.to_string(), artifact::describe(&document));
        return Err(SourceError::Artifact { name, what });
    };
    if let Some(media_type) = &document.media_type
        && MediaType::of(media_type) != MediaType::Manifest
    {
        return Err(no_image(format!("says that it is {media_type:?}, which is no image manifest")));
    }
    let config = Config::parse(content.document(config, options)?)?;
    let descriptors = document.layers.unwrap_or_default();
    // What a layer is comes first: a foreign one says more than that its file is missing.
    for layer in &descriptors {
        let problem = match MediaType::of(&layer.media_type) {
            MediaType::Layer => continue,
            MediaType::EncryptedLayer => {
                "is an encrypted layer; decrypt the image first, for instance with skopeo".to_owned()
            }
            MediaType::ForeignLayer => "is a foreign layer, which only its vendor may hand out".to_owned(),
            _ => format!("is a layer of the unknown media type {:?}", layer.media_type),
        };
        return Err(SourceError::Unsupported { name: layer.digest.clone(), problem });
    }
    let diff_ids = incomplete::diff_ids(&config, descriptors.len(), options)?;
    let layer = |(descriptor, diff_id): (&Descriptor, Option<Digest>)| {
        let stated = Some(digest(&descriptor.digest)?);
        let blob = incomplete::blob(content.blob(descriptor), stated, descriptor.size, options)?;
        Ok(Layer { blob, media_type: Some(descriptor.media_type.clone()), diff_id: None }.with_diff_id(diff_id))
    };
    let layers = descriptors.iter().zip(diff_ids).map(layer).collect::<Result<_, SourceError>>()?;
    Ok(Image { name: None, manifest: Some(manifest), config: Some(config), layers })
}

fn digest(text: &str) -> Result<Digest, SourceError> {
    text.parse().map_err(|error: crate::blob::DigestError| SourceError::Json {
        name: "a descriptor".to_owned(),
        problem: error.to_string(),
    })
}
