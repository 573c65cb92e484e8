//! OCI image layouts, as directories and in archives (image specification, image-layout.md).

use std::collections::{HashMap, HashSet};

use base64::Engine;
use serde::Deserialize;

use super::files::Files;
use super::names::canonical;
use super::{OpenOptions, SourceError, check_platform, json};
use crate::blob::{Blob, Digest};
use crate::image::{Config, Image, Layer, MediaType, Platform};

/// Indexes within indexes.
const MOST_NESTED: usize = 8;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";
const ATTESTATION: &str = "vnd.docker.reference.type";

/// What of a descriptor is needed (image specification, descriptor.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: Option<u64>,
    platform: Option<DescriptorPlatform>,
    annotations: Option<HashMap<String, String>>,
    data: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct DescriptorPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// An index or a manifest: which, its fields tell.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    schema_version: Option<u64>,
    artifact_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

pub(super) fn open(files: &Files, tag: Option<&str>, options: &OpenOptions) -> Result<Image, SourceError> {
    for needed in ["index.json", "oci-layout"] {
        if !files.has(needed) {
            let problem = format!("has no {needed}: it is no OCI image layout");
            return Err(SourceError::NotAnImage { path: files.path().to_owned(), problem });
        }
    }
    check_version(files, options)?;
    let index: Document = json("index.json", &files.read("index.json", None, None, options)?)?;
    let entries = index.manifests.unwrap_or_default();
    if entries.is_empty() {
        let problem = "holds no image: its index.json lists none".to_owned();
        return Err(SourceError::NotAnImage { path: files.path().to_owned(), problem });
    }
    let chosen = match tag {
        Some(tag) => by_tag(&entries, tag)?,
        None => one_image(entries.iter().filter(|entry| !is_attestation(entry)).cloned().collect())?,
    };
    let name = chosen.first().and_then(|descriptor| names(descriptor).first().map(|&name| name.to_owned()));
    let (descriptor, document) = resolve(files, chosen, options, 0)?;
    let mut image = image(files, &descriptor, document, options)?;
    image.name = name;
    check_platform(&image, options)?;
    Ok(image)
}

fn check_version(files: &Files, options: &OpenOptions) -> Result<(), SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = json("oci-layout", &files.read("oci-layout", None, None, options)?)?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    let problem = format!("has the layout version {:?}; 1.x is known", marker.image_layout_version);
    Err(SourceError::NotAnImage { path: files.path().to_owned(), problem })
}

/// What a descriptor of an index is called.
fn names(descriptor: &Descriptor) -> Vec<&str> {
    let annotation = |key| descriptor.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    [FULL_NAME, REF_NAME].into_iter().filter_map(annotation).collect()
}

fn by_tag(entries: &[Descriptor], tag: &str) -> Result<Vec<Descriptor>, SourceError> {
    let matching = |is_it: &dyn Fn(&Descriptor) -> bool| -> Vec<Descriptor> {
        entries.iter().filter(|entry| is_it(entry)).cloned().collect()
    };
    let found = match tag.strip_prefix('@') {
        Some(digest) => matching(&|entry| entry.digest == digest),
        None => {
            let whole = matching(&|entry| names(entry).iter().any(|name| canonical(name) == canonical(tag)));
            let behind = format!(":{tag}");
            let ends = || matching(&|entry| names(entry).iter().any(|name| *name == tag || name.ends_with(&behind)));
            if whole.is_empty() { ends() } else { whole }
        }
    };
    if found.is_empty() {
        return Err(SourceError::NoSuchImage { wanted: tag.to_owned(), names: all_names(entries) });
    }
    one_image(found)
}

/// Several descriptors may be one image under several names, or for several platforms; but not several images.
fn one_image(mut found: Vec<Descriptor>) -> Result<Vec<Descriptor>, SourceError> {
    let ambiguous = |found: &[Descriptor]| Err(SourceError::Ambiguous { names: all_names(found) });
    let all = found.clone();
    let mut seen = HashSet::new();
    found.retain(|entry| seen.insert(entry.digest.clone()));
    let [first, others @ ..] = found.as_slice() else { return Ok(found) };
    if others.iter().any(|other| names(other) != names(first)) {
        return ambiguous(&all);
    }
    if !others.is_empty() && found.iter().any(|image| image.platform.is_none()) {
        return ambiguous(&all);
    }
    Ok(found)
}

fn all_names(entries: &[Descriptor]) -> Vec<String> {
    let name = |entry: &Descriptor| match names(entry).first() {
        Some(name) => (*name).to_owned(),
        None => format!("@{}", entry.digest),
    };
    entries.iter().filter(|entry| !is_attestation(entry)).map(name).collect()
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotated = descriptor.annotations.as_ref().is_some_and(|all| all.contains_key(ATTESTATION));
    let unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    annotated || unknown
}

/// Goes down through indexes to the manifest of the wanted platform.
fn resolve(
    files: &Files,
    candidates: Vec<Descriptor>,
    options: &OpenOptions,
    depth: usize,
) -> Result<(Descriptor, Document), SourceError> {
    if depth > MOST_NESTED {
        return Err(SourceError::NestedTooDeep(MOST_NESTED));
    }
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let candidates: Vec<Descriptor> = candidates.into_iter().filter(|entry| !is_attestation(entry)).collect();
    let mut suitable: Vec<(u32, Descriptor)> = Vec::new();
    let mut offered = Vec::new();
    for entry in &candidates {
        match &entry.platform {
            // Nothing is said: an index, or an image whose configuration will tell. What says that it suits goes first.
            None => suitable.push((u32::MAX, entry.clone())),
            Some(stated) => {
                let stated = platform(stated);
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
        match enter(files, descriptor, options, depth) {
            Err(SourceError::NoSuchPlatform { offered: inside, .. }) => offered.extend(inside),
            found => return found,
        }
    }
    Err(SourceError::NoSuchPlatform { wanted, offered })
}

/// What a descriptor leads to: a manifest, or what an index has for the wanted platform.
fn enter(
    files: &Files,
    descriptor: Descriptor,
    options: &OpenOptions,
    depth: usize,
) -> Result<(Descriptor, Document), SourceError> {
    let stated = MediaType::of(&descriptor.media_type);
    match stated {
        MediaType::Manifest | MediaType::Index => {}
        MediaType::Schema1 => return Err(schema_1(&descriptor.digest)),
        // Some writers leave it out; the document tells.
        MediaType::Unknown if descriptor.media_type.is_empty() => {}
        _ => {
            let problem = format!("is of type {:?}, which is no image", descriptor.media_type);
            return Err(SourceError::Unsupported { name: descriptor.digest, problem });
        }
    }
    let bytes = read(files, &descriptor, options)?;
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
        _ => match document.manifests {
            Some(manifests) => resolve(files, manifests, options, depth + 1),
            None => Ok((descriptor, document)),
        },
    }
}

fn schema_1(digest: &str) -> SourceError {
    let problem =
        "is a Docker manifest of schema 1, which was given up in 2017: pull the image with an engine and save it again";
    SourceError::Unsupported { name: digest.to_owned(), problem: problem.to_owned() }
}

fn platform(offered: &DescriptorPlatform) -> Platform {
    Platform {
        os: offered.os.clone(),
        architecture: offered.architecture.clone(),
        variant: offered.variant.clone().filter(|variant| !variant.is_empty()),
    }
}

fn image(
    files: &Files,
    descriptor: &Descriptor,
    document: Document,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let no_image = |problem: String| SourceError::Unsupported { name: descriptor.digest.clone(), problem };
    let Some(config) = document.config else {
        return Err(no_image("is a manifest without a configuration, which is no image".to_owned()));
    };
    if MediaType::of(&config.media_type) != MediaType::Config {
        let kind = document.artifact_type.unwrap_or(config.media_type);
        return Err(no_image(format!("is a manifest of {kind:?}, which is no image")));
    }
    if let Some(media_type) = &document.media_type
        && MediaType::of(media_type) != MediaType::Manifest
    {
        return Err(no_image(format!("says that it is {media_type:?}, which is no image manifest")));
    }
    let config = Config::parse(read(files, &config, options)?)?;
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
    let diff_ids = config.diff_ids(descriptors.len())?;
    let layer = |(descriptor, diff_id): (&Descriptor, Digest)| {
        Ok(Layer {
            blob: blob(files, descriptor)?.diff_id_by(diff_id.algorithm()),
            media_type: Some(descriptor.media_type.clone()),
            diff_id: Some(diff_id),
        })
    };
    let layers = descriptors.iter().zip(diff_ids).map(layer).collect::<Result<_, SourceError>>()?;
    let manifest_digest = Some(digest(&descriptor.digest)?);
    Ok(Image { name: None, manifest_digest, config: Some(config), layers })
}

/// The blob that a descriptor is of: what it holds itself, or a file of the layout.
fn blob(files: &Files, descriptor: &Descriptor) -> Result<Blob, SourceError> {
    let digest = digest(&descriptor.digest)?;
    let blob = match &descriptor.data {
        Some(data) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| SourceError::Json {
                name: descriptor.digest.clone(),
                problem: format!("the data in its descriptor is no base64: {error}"),
            })?;
            Blob::from_bytes(bytes)
        }
        None => files.blob(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))?,
    };
    Ok(blob.stated(Some(digest), descriptor.size))
}

fn read(files: &Files, descriptor: &Descriptor, options: &OpenOptions) -> Result<Vec<u8>, SourceError> {
    blob(files, descriptor)?
        .read_all(options.limits.metadata_size)
        .map_err(|error| SourceError::Blob { name: descriptor.digest.clone(), error })
}

fn digest(text: &str) -> Result<Digest, SourceError> {
    text.parse().map_err(|error: crate::blob::DigestError| SourceError::Json {
        name: "a descriptor".to_owned(),
        problem: error.to_string(),
    })
}
