//! Writes OCI image layouts in a tar archive. Several images share one archive, and their blobs in it.

use crate::transport::oci;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use tempfile::NamedTempFile;

use crate::blob::{Blob, BlobError};
use crate::core::digest::Digest;
use crate::image::MediaType;
use crate::image::document::{self, Descriptor, Document};
use crate::transport::docker::archive::refuse_compressed;
use crate::transport::io::tarball::{ArchiveFile, Tarball};
use crate::transport::oci::index::{INDEX, MARKER, MARKER_CONTENT, OciIndex};
use crate::transport::oci::layout::blob_name;
use crate::transport::source::{self, Files, SourceError};
use crate::transport::store::{Finished, Form, OpenOptions, Presence, Store, StoreError, Stored, locked};

/// An OCI archive that images are put into.
#[derive(Debug)]
pub(in crate::transport) struct OciArchive {
    file: ArchiveFile,
    tag: Option<String>,
    metadata_size: u64,
    index: OciIndex,
    /// The archive that was there before.
    present: Option<Files>,
    written: Mutex<Written>,
}

/// What was written to the new archive so far.
#[derive(Debug)]
struct Written {
    archive: Tarball,
    directories: BTreeSet<String>,
    /// The blobs and their sizes.
    blobs: BTreeMap<Digest, u64>,
}

impl OciArchive {
    pub(in crate::transport) fn open(
        path: &Path,
        tag: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let file = ArchiveFile::open(path, options)?;
        let (mut index, mut present) = (OciIndex::new(), None);
        if file.has_content()? {
            refuse_compressed(&file)?;
            let open = source::OpenOptions {
                limits: options.limits,
                cancel: options.cancel.clone(),
                ..source::OpenOptions::default()
            };
            let files = Files::of_archive(file.place(), &open).map_err(StoreError::Present)?;
            if !files.has(INDEX) {
                let problem = format!("is not an OCI archive (it has no {INDEX}): name another file");
                return Err(StoreError::Occupied { path: file.place().to_owned(), problem });
            }
            let bytes = files.read(INDEX, None, None, &open).map_err(StoreError::Present)?;
            index = OciIndex::parse(&bytes).map_err(|problem| {
                let problem = format!("cannot be added to, since its {INDEX} cannot be read: {problem}");
                StoreError::Occupied { path: file.place().to_owned(), problem }
            })?;
            present = Some(files);
        }
        let archive = Tarball::new(file.draft()?);
        let written = Mutex::new(Written { archive, directories: BTreeSet::new(), blobs: BTreeMap::new() });
        let metadata_size = options.limits.metadata_size;
        Ok(Self { file, tag: tag.map(str::to_owned), metadata_size, index, present, written })
    }

    /// A blob that was there.
    fn present(&self, digest: &Digest) -> Option<Blob> {
        let blob = self.present.as_ref()?.blob(&blob_name(digest)).ok()?;
        Some(blob.stated(Some(digest.clone()), None))
    }

    /// Copies a blob of the old archive. Returns its bytes if it is a document that references other blobs.
    fn take_over(&self, digest: &Digest, is_document: bool) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.present(digest) else { return Ok(None) };
        let mut written = locked(&self.written);
        if written.blobs.contains_key(digest) {
            return Ok(None);
        }
        if !is_document {
            let content = &mut blob.verified_reader();
            written.blob(digest, content).map_err(|error| error.of_present(&blob_name(digest)))?;
            return Ok(None);
        }
        let wrong = |error: BlobError| StoreError::Present(SourceError::Blob { name: blob_name(digest), error });
        let bytes = blob.read_all(self.metadata_size).map_err(wrong)?;
        written.blob(digest, &mut bytes.as_slice())?;
        Ok(Some(bytes))
    }

    /// Copies all blobs of the old archive that are still referenced.
    fn take_over_all(&self) -> Result<(), StoreError> {
        let mut pending: Vec<Named> = self.index.descriptors().iter().filter_map(listed).collect();
        while let Some((digest, is_document)) = pending.pop() {
            if let Some(bytes) = self.take_over(&digest, is_document)? {
                let Document { manifests, layers, config, blobs, .. } = document::read(&bytes).unwrap_or_default();
                pending.extend(manifests.iter().flatten().filter_map(listed));
                let all = layers.iter().chain(&blobs).flatten().chain(&config);
                pending.extend(all.filter_map(|descriptor| Some((descriptor.digest.parse().ok()?, false))));
            }
        }
        Ok(())
    }
}

/// A digest, and whether what it is of names others.
type Named = (Digest, bool);

/// The descriptors that an index lists.
fn listed(descriptor: &Descriptor) -> Option<Named> {
    let is_document = matches!(
        MediaType::of(&descriptor.media_type),
        MediaType::Manifest | MediaType::Index | MediaType::Artifact | MediaType::Generic
    );
    Some((descriptor.digest.parse().ok()?, is_document))
}

impl Written {
    /// Adds a blob, once.
    fn blob(&mut self, digest: &Digest, content: &mut dyn Read) -> Result<u64, StoreError> {
        if let Some(size) = self.blobs.get(digest) {
            return Ok(*size);
        }
        let name = blob_name(digest);
        // skopeo and Podman unpack an archive first, and without root they cannot make directories that it does not
        // list.
        for (slash, _) in name.match_indices('/') {
            let directory = &name[..=slash];
            if self.directories.insert(directory.to_owned()) {
                self.archive.directory(directory)?;
            }
        }
        let size = self.archive.file(&name, content)?;
        self.blobs.insert(digest.clone(), size);
        Ok(size)
    }
}

impl Store for OciArchive {
    fn form(&self) -> Form {
        Form::Manifests { docker: false }
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        oci::index::names(self.tag.as_deref(), of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        if let Some(size) = locked(&self.written).blobs.get(&blob.digest) {
            return Ok(Presence::There(*size));
        }
        match self.present(&blob.digest) {
            Some(present) if blob.size.is_none_or(|size| size == present.len()) => {
                // The image that was asked about will need it, whether or not one that was there still does.
                self.take_over(&blob.digest, false)?;
                Ok(Presence::There(present.len()))
            }
            _ => Ok(Presence::Missing),
        }
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        locked(&self.written).blob(&blob.digest, content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.file.draft()
    }

    fn publish(mut self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        for image in images {
            self.index.add(image);
            if let Some(manifest) = &image.manifest {
                self.put_manifest(manifest)?;
            }
        }
        self.take_over_all()?;
        let mut written = self.written.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        written.archive.file(INDEX, &mut self.index.to_bytes().as_slice())?;
        written.archive.file(MARKER, &mut &MARKER_CONTENT[..])?;
        self.file.publish(written.archive)
    }
}
