//! Reads images from registries. A tag is always looked up at the registry; what has a digest comes from the cache if
//! it is there.

use crate::transport::source::{Named, OpenOptions, Selection, SourceError, manifests};
use std::sync::{Mutex, OnceLock};

use crate::blob::Blob;
use crate::configuration::{Subject, load_registries};
use crate::core::digest::Digest;
use crate::core::reference::ImageName;
use crate::image::document::{self, Document};
use crate::image::{Descriptor, Image, Manifest, MediaType};
use crate::net::registry::{Endpoints, FetchedManifest, RegistryError};
use crate::sigstore;
use crate::transport::source::manifests::Content;
use crate::transport::source::referrers::Referring;
use crate::transport::source::required::Required;
use crate::transport::source::signed::{Signatures, Signed};

/// The most bytes of what a signature is of, and the most signatures of one image.
const MOST_STATEMENT: u64 = 4 << 20;
const MOST_STATEMENTS: usize = 100;

/// What manifests and indexes are fetched as.
struct AtRegistry<'a> {
    places: Endpoints,
    options: &'a OpenOptions,
    /// The manifest that the name resolved to; it is not requested again by its digest.
    first: Mutex<Option<(Digest, Vec<u8>)>>,
    /// Which of the places gave it: all that belongs to it is asked for there first.
    from: OnceLock<usize>,
}

/// What a word could stand for that other tools take for an image's short name. It is suggested, and never pulled
/// unasked: whoever takes a name at the next registry of a list decides what is run.
pub(in crate::transport) fn short_name(word: &str, options: &OpenOptions) -> Option<String> {
    word.parse::<ImageName>().ok()?;
    load_registries(&options.registry.configuration).ok()?.meant_by(word)
}

pub(in crate::transport) fn open(name: &ImageName, options: &OpenOptions) -> Result<Image, SourceError> {
    let places = Endpoints::new(name, &options.registry, &options.cancel)?;
    let required = Required::of(&Subject::Docker(name), options)?;
    let (content, first) = AtRegistry::ask(&places, name, options)?;
    let image = manifests::open(&content, vec![first], Some(name.complete().to_string()), options)?;
    required.check_image(name, &image, &content)?;
    Ok(image)
}

/// The manifest or index as it is stored.
pub(in crate::transport) fn manifest(name: &ImageName, options: &OpenOptions) -> Result<Manifest, SourceError> {
    let places = Endpoints::new(name, &options.registry, &options.cancel)?;
    let (content, first) = AtRegistry::ask(&places, name, options)?;
    manifests::raw(&content, vec![first], options)
}

/// A repository that is asked what refers to its images.
struct Repositories<'a>(AtRegistry<'a>);

/// The place that knows what refers to the images of a repository.
pub(in crate::transport) fn referring<'a>(
    name: &ImageName,
    options: &'a OpenOptions,
) -> Result<Box<dyn Referring + 'a>, SourceError> {
    let places = Endpoints::new(name, &options.registry, &options.cancel)?;
    Ok(Box::new(Repositories(AtRegistry { places, options, first: Mutex::default(), from: OnceLock::new() })))
}

impl Referring for Repositories<'_> {
    fn by_subject(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        Ok(self.0.places.referrers(subject, self.0.options.limits.metadata_size)?)
    }

    fn by_tag(&self, tag: &str) -> Result<Option<Descriptor>, SourceError> {
        match self.0.places.manifest(tag, self.0.options.limits.metadata_size, None) {
            Ok((_, FetchedManifest { digest, media_type, bytes })) => {
                let descriptor = descriptor(digest.clone(), &media_type, &bytes);
                if let Ok(mut first) = self.0.first.lock() {
                    *first = Some((digest, bytes));
                }
                Ok(Some(descriptor))
            }
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn content(&self) -> &dyn Content {
        &self.0
    }
}

/// All tags of the repository.
pub(in crate::transport) fn tags(name: &ImageName, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    some_tags(&Endpoints::new(name, &options.registry, &options.cancel)?, name)
}

/// A repository without tags is told apart from one whose tags all went well.
fn some_tags(places: &Endpoints, name: &ImageName) -> Result<Vec<String>, SourceError> {
    let tags = places.tags()?;
    if tags.is_empty() {
        return Err(SourceError::NoTags(format!("docker://{name}")));
    }
    Ok(tags)
}

/// All images of the repository, or the one that was asked for; of each, all platforms or the one that suits.
pub(in crate::transport) fn open_set(
    name: &ImageName,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    // One for all: its clones share connections and tokens.
    let places = Endpoints::new(name, &options.registry, &options.cancel)?;
    let tags = if selection.all_tags {
        let tags = some_tags(&places, name)?;
        tags.iter().map(|tag| name.with_tag(tag)).collect::<Result<_, _>>().map_err(|error| {
            SourceError::Unsupported {
                name: format!("docker://{name}"),
                problem: format!("has a tag that is none: {error}"),
            }
        })?
    } else {
        vec![name.clone()]
    };
    let open_one = |name: ImageName| {
        let whole = name.complete().to_string();
        let is_whole = selection.all_platforms || name.tag().is_some_and(manifests::is_of_referrers);
        let required = Required::of(&Subject::Docker(&name), options)?;
        let (content, first) = AtRegistry::ask(&places, &name, options)?;
        let read = if is_whole { manifests::tree } else { manifests::open_any };
        let tree = read(&content, vec![first], Some(whole.clone()), options)?;
        required.check_tree(&name, &tree, &content)?;
        Ok(Named { names: vec![whole], content: tree })
    };
    tags.into_iter().map(open_one).collect()
}

impl<'a> AtRegistry<'a> {
    /// Requests an image, and returns the descriptor that its name resolves to.
    fn ask(places: &Endpoints, name: &ImageName, options: &'a OpenOptions) -> Result<(Self, Descriptor), SourceError> {
        let content = Self { places: places.clone(), options, first: Mutex::default(), from: OnceLock::new() };
        let first = content.first(name)?;
        Ok((content, first))
    }

    /// The descriptor of what the image's name leads to.
    fn first(&self, name: &ImageName) -> Result<Descriptor, SourceError> {
        let limit = self.options.limits.metadata_size;
        let kept = || self.options.cache.as_ref()?.find(name.digest()?)?.read_all(limit).ok();
        if let (Some(digest), Some(bytes)) = (name.digest(), kept()) {
            return Ok(descriptor(digest.clone(), "", &bytes));
        }
        let asked = self.places.manifest(&name.wanted(), limit, None);
        let (from, fetched) = asked.map_err(|error| self.explain(name, error))?;
        self.from.get_or_init(|| from);
        // By whatever algorithm it was asked for: that is the one to check.
        let digest = name.digest().cloned().unwrap_or_else(|| fetched.digest.clone());
        let descriptor = descriptor(digest.clone(), &fetched.media_type, &fetched.bytes);
        if let Ok(mut first) = self.first.lock() {
            *first = Some((digest, fetched.bytes));
        }
        Ok(descriptor)
    }

    /// A tag that is not there is easily mistyped: the others are told.
    fn explain(&self, name: &ImageName, error: RegistryError) -> SourceError {
        if matches!(error, RegistryError::NotFound { .. })
            && name.digest().is_none()
            && let Ok(mut names) = self.places.tags()
            && !names.is_empty()
        {
            if names.contains(&name.wanted()) {
                return SourceError::Vanished(name.wanted());
            }
            const MOST: usize = 20;
            let more = names.len().saturating_sub(MOST);
            names.truncate(MOST);
            if more > 0 {
                names.push(format!("and {more} more"));
            }
            return SourceError::NoSuchImage { wanted: name.wanted(), names };
        }
        error.into()
    }

    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        if let Ok(first) = self.first.lock()
            && let Some((known, bytes)) = &*first
            && known == digest
        {
            return Ok(bytes.clone());
        }
        let limit = self.options.limits.metadata_size;
        let (_, FetchedManifest { bytes, .. }) =
            self.places.manifest(&digest.to_string(), limit, self.first_place())?;
        Ok(bytes)
    }

    fn first_place(&self) -> Option<usize> {
        self.from.get().copied()
    }
}

impl Content for AtRegistry<'_> {
    fn find(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Blob, SourceError> {
        let cache = self.options.cache.as_ref();
        let fits = |blob: &Blob| descriptor.size.is_none_or(|size| size == blob.len());
        if let Some(kept) = cache.and_then(|cache| cache.find(digest)).filter(fits) {
            return Ok(kept);
        }
        let is_manifest = matches!(
            MediaType::of(&descriptor.media_type),
            MediaType::Manifest | MediaType::Index | MediaType::Artifact | MediaType::Schema1
        );
        if is_manifest {
            let bytes = self.manifest(digest)?;
            if let Some(cache) = cache {
                cache.keep(digest, &bytes).map_err(SourceError::Cache)?;
            }
            return Ok(Blob::from_bytes(bytes));
        }
        // One that only its vendor may hand out is often not there: that is better known now.
        let is_sure = MediaType::of(&descriptor.media_type) != MediaType::ForeignLayer;
        let remote = self.places.blob(digest, descriptor.size.filter(|_| is_sure), self.first_place())?;
        Ok(match cache {
            Some(cache) => cache.keeping(digest, remote),
            None => Blob::from_remote(std::sync::Arc::new(remote)),
        })
    }
}

impl Signatures for AtRegistry<'_> {
    fn of(&self, image: &Digest) -> Result<Vec<Signed>, SourceError> {
        let limit = self.options.limits.metadata_size;
        let bytes = match self.places.manifest(&sigstore::tag(image), limit, self.first_place()) {
            Ok((_, fetched)) => fetched.bytes,
            Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let name = sigstore::tag(image);
        let document: Document = crate::transport::source::json(&name, &bytes)?;
        let statements = document.layers.into_iter().flatten().filter(|layer| layer.media_type == sigstore::STATEMENT);
        let signed = |mut layer: Descriptor| {
            let digest: Digest = layer.digest.parse().map_err(|error: crate::core::digest::DigestError| {
                SourceError::Json { name: name.clone(), error: error.into() }
            })?;
            let blob = self.places.blob(&digest, layer.size, self.first_place())?;
            let blob = Blob::from_remote(std::sync::Arc::new(blob)).stated(Some(digest), layer.size);
            let statement = blob.read_all(MOST_STATEMENT);
            let statement = statement.map_err(|error| SourceError::Blob { name: layer.digest.clone(), error })?;
            let signature = layer.annotations.remove(sigstore::SIGNATURE);
            Ok(Signed { statement, signature })
        };
        statements.take(MOST_STATEMENTS).map(signed).collect()
    }
}

/// What a descriptor would say of a document that nobody described. A registry that calls it what it cannot be is not
/// believed: the document tells.
fn descriptor(digest: Digest, said: &str, bytes: &[u8]) -> Descriptor {
    let said = said.split(';').next().unwrap_or_default().trim();
    let known = |text: &str| !matches!(MediaType::of(text), MediaType::Unknown | MediaType::Generic);
    let own = || document::read::<Document>(bytes).map(|document| document.media_type).unwrap_or_default();
    Descriptor::of(if known(said) { said.to_owned() } else { own() }, &digest, bytes.len() as u64)
}
