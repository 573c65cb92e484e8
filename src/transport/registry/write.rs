//! Repositories at registries: blobs first, each asked for before it is sent; then manifests, and the tags at last.
//!
//! What was sent before something failed stays in the registry's store until it sweeps; no manifest names it, and so
//! nobody sees it.

use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::core::reference::ImageName;
use crate::image::Manifest;
use crate::net::registry::{RegistryError, Repository};
use crate::transport::store::{Finished, Form, OpenOptions, Presence, Store, StoreError, Stored, Tell, pour, tag_of};

/// A repository that images are put into.
#[derive(Debug)]
struct AtRegistry {
    repository: Repository,
    name: ImageName,
    /// The repository that the images come from: at the same registry, its blobs can be mounted instead of sent.
    origin: Option<ImageName>,
    metadata_size: u64,
}

pub(in crate::transport) fn open(name: &ImageName, options: &OpenOptions) -> Result<Box<dyn Store>, StoreError> {
    if let Some(digest) = name.digest() {
        return Err(StoreError::NameNeeded(format!("{name}: an image is given a tag: leave out @{digest}")));
    }
    let metadata_size = options.limits.metadata_size;
    let repository = Repository::to_push(name, &options.registry, &options.cancel)?;
    Ok(Box::new(AtRegistry { repository, name: name.clone(), origin: options.origin.clone(), metadata_size }))
}

impl AtRegistry {
    fn push(&self, digest: &Digest, blob: &Blob, sent: &dyn Fn(u64)) -> Result<u64, StoreError> {
        let size = blob.len();
        match self.repository.push_blob(blob, digest, size, sent) {
            Ok(()) => Ok(size),
            Err(RegistryError::Input { error, .. }) => Err(StoreError::Content(error)),
            // The registry verifies digests too, but an error of ours explains a damaged blob better.
            Err(error @ RegistryError::Refused { .. }) => match blob.check() {
                Err(damaged) => Err(StoreError::Content(std::io::Error::other(damaged))),
                Ok(()) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

impl Store for AtRegistry {
    fn form(&self) -> Form {
        Form::Manifests { docker: true }
    }

    fn is_public(&self) -> bool {
        true
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        if !several {
            return Ok(vec![self.name.complete().to_string()]);
        }
        if let Some(tag) = self.name.tag() {
            return Err(StoreError::OneTag(tag.to_owned()));
        }
        of_source.iter().map(|source| Ok(self.name.with_tag(tag_of(source))?.to_string())).collect()
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        if self.repository.blob_exists(&blob.digest)? {
            let size = match blob.size {
                Some(size) => size,
                None => crate::blob::Remote::len(&self.repository.blob(&blob.digest, None)?),
            };
            return Ok(Presence::There(size));
        }
        match (&self.origin, blob.size) {
            (Some(origin), Some(size)) if self.repository.mount_blob(&blob.digest, origin)? => {
                Ok(Presence::Mounted(size))
            }
            _ => Ok(Presence::Missing),
        }
    }

    fn put(&self, blob: &Stored, content: &mut dyn std::io::Read) -> Result<u64, StoreError> {
        // A broken connection wants the bytes again, and a reader gives them once.
        let mut draft = self.draft()?;
        let path = draft.path().to_owned();
        let size = pour(content, draft.as_file_mut(), &path)?;
        self.adopt(blob, draft).map(|()| size)
    }

    fn put_blob(&self, stored: &Stored, blob: &Blob, tell: Tell<'_>) -> Result<u64, StoreError> {
        tell(0).map_err(StoreError::Content)?;
        // Whether it is still wanted is asked before it is sent; what ends all work ends the connection, too.
        self.push(&stored.digest, blob, &|sent| drop(tell(sent)))
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        let directory = std::env::temp_dir();
        NamedTempFile::new_in(&directory).map_err(|error| StoreError::io(&directory, error))
    }

    fn adopt(&self, blob: &Stored, draft: NamedTempFile) -> Result<(), StoreError> {
        let io = |error| StoreError::io(draft.path(), error);
        let file = draft.reopen().map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let content = Blob::from_file(Arc::new(file), 0, length).stated(Some(blob.digest.clone()), blob.size);
        self.push(&blob.digest, &content, &|_| {}).map(|_| ())
    }

    // Without looking for it: that its bytes are among the blobs does not make it one of the repository's manifests.
    fn put_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        Ok(self.repository.push_manifest(&manifest.bytes, &manifest.media_type, &manifest.digest.to_string())?)
    }

    fn show(&self, image: &Finished) -> Result<(), StoreError> {
        let Some(manifest) = &image.manifest else { return Ok(()) };
        if let (Some(subject), []) = (&image.subject, image.names.as_slice()) {
            return Ok(self.repository.push_referrer(manifest, subject, self.metadata_size)?);
        }
        for name in &image.names {
            self.repository.push_manifest(&manifest.bytes, &manifest.media_type, tag_of(name))?;
        }
        Ok(())
    }

    fn publish(self: Box<Self>, _: &[Finished]) -> Result<(), StoreError> {
        Ok(())
    }
}
