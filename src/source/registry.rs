//! Images at registries. A tag is always asked for; what goes by its digest comes from the cache if it is there.

use std::sync::Mutex;

use super::manifests::{self, Content};
use super::referrers::Referring;
use super::{Named, OpenOptions, Selection, SourceError};
use crate::blob::{Blob, Digest};
use crate::image::{Descriptor, Document, Image, ImageName, Manifest, MediaType};
use crate::registry::{FetchedManifest, RegistryError, Repository};

/// What manifests and indexes are fetched as.
struct AtRegistry<'a> {
    repository: Repository,
    options: &'a OpenOptions,
    /// What the image's name led to: it need not be asked for again by its digest.
    first: Mutex<Option<(Digest, Vec<u8>)>>,
}

pub(super) fn open(name: &ImageName, options: &OpenOptions) -> Result<Image, SourceError> {
    let repository = Repository::new(name, &options.registry, &options.cancel);
    let (content, first) = AtRegistry::ask(&repository, name, options)?;
    manifests::open(&content, vec![first], Some(name.complete().to_string()), options)
}

/// The manifest or index as it is stored.
pub(super) fn manifest(name: &ImageName, options: &OpenOptions) -> Result<Manifest, SourceError> {
    let repository = Repository::new(name, &options.registry, &options.cancel);
    let (content, first) = AtRegistry::ask(&repository, name, options)?;
    manifests::raw(&content, vec![first], options)
}

/// A repository that is asked what refers to its images.
pub(super) struct Repositories<'a>(AtRegistry<'a>);

impl<'a> Repositories<'a> {
    pub(super) fn open(name: &ImageName, options: &'a OpenOptions) -> Self {
        let repository = Repository::new(name, &options.registry, &options.cancel);
        Self(AtRegistry { repository, options, first: Mutex::default() })
    }
}

impl Referring for Repositories<'_> {
    fn by_subject(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        Ok(self.0.repository.referrers(subject, self.0.options.limits.metadata_size)?)
    }

    fn by_tag(&self, tag: &str) -> Result<Option<Descriptor>, SourceError> {
        match self.0.repository.manifest(tag, self.0.options.limits.metadata_size) {
            Ok(FetchedManifest { digest, media_type, bytes }) => {
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
pub(super) fn tags(name: &ImageName, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    Ok(Repository::new(name, &options.registry, &options.cancel).tags()?)
}

/// All images of the repository, or the one that was asked for; of each, all platforms or the one that suits.
pub(super) fn open_set(
    name: &ImageName,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    // One for all: its clones share connections and tokens.
    let repository = Repository::new(name, &options.registry, &options.cancel);
    let tags = if selection.all_tags {
        let tags = repository.tags()?;
        if tags.is_empty() {
            return Err(SourceError::NoTags(format!("docker://{name}")));
        }
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
        let content = if is_whole {
            let (content, first) = AtRegistry::ask(&repository, &name, options)?;
            manifests::tree(&content, vec![first], Some(whole.clone()), options)?
        } else {
            let (content, first) = AtRegistry::ask(&repository, &name, options)?;
            manifests::open_any(&content, vec![first], Some(whole.clone()), options)?
        };
        Ok(Named { names: vec![whole], content })
    };
    tags.into_iter().map(open_one).collect()
}

impl<'a> AtRegistry<'a> {
    /// Asks for an image, and gives the descriptor of what its name leads to.
    fn ask(
        repository: &Repository,
        name: &ImageName,
        options: &'a OpenOptions,
    ) -> Result<(Self, Descriptor), SourceError> {
        let content = Self { repository: repository.clone(), options, first: Mutex::default() };
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
        let fetched = self.repository.manifest(&name.wanted(), limit).map_err(|error| self.explain(name, error))?;
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
            && let Ok(mut names) = self.repository.tags()
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
        let FetchedManifest { bytes, .. } =
            self.repository.manifest(&digest.to_string(), self.options.limits.metadata_size)?;
        Ok(bytes)
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
        ) || descriptor.media_type.is_empty();
        if is_manifest {
            let bytes = self.manifest(digest)?;
            if let Some(cache) = cache {
                cache.keep(digest, &bytes).map_err(SourceError::Cache)?;
            }
            return Ok(Blob::from_bytes(bytes));
        }
        let remote = self.repository.blob(digest, descriptor.size)?;
        Ok(match cache {
            Some(cache) => cache.keeping(digest, remote),
            None => Blob::from_remote(std::sync::Arc::new(remote)),
        })
    }
}

/// What a descriptor would say of a document that nobody described. A registry that calls it what it cannot be is not believed: the
/// document tells.
fn descriptor(digest: Digest, said: &str, bytes: &[u8]) -> Descriptor {
    let said = said.split(';').next().unwrap_or_default().trim();
    let known = |text: &str| !matches!(MediaType::of(text), MediaType::Unknown);
    let own = || serde_json::from_slice::<Document>(bytes).ok()?.media_type;
    let media_type = if known(said) { said.to_owned() } else { own().unwrap_or_default() };
    Descriptor {
        media_type,
        digest: digest.to_string(),
        size: Some(bytes.len() as u64),
        artifact_type: None,
        platform: None,
        annotations: None,
        data: None,
    }
}
