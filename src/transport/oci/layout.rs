//! Writes OCI image layouts: a directory of blobs that several images share (image specification, image-layout.md).
//!
//! Blobs wait out of sight until all are there. Then they are moved in, and `index.json`, which names the images, is
//! replaced at last, by a rename; a lock on the directory keeps two processes from losing each other's images.

use crate::transport::oci;
use std::io::Read;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::core::digest::Digest;
use crate::transport::io::staging::Staging;
use crate::transport::oci::index::{INDEX, MARKER, MARKER_CONTENT, OciIndex};
use crate::transport::store::{Finished, Form, OpenOptions, Presence, Store, StoreError, Stored};

/// An OCI image layout that images are put into.
#[derive(Debug)]
pub(in crate::transport) struct OciLayout {
    staging: Staging,
    tag: Option<String>,
}

impl OciLayout {
    pub(in crate::transport) fn open(
        directory: &Path,
        tag: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let layout = Self { staging: Staging::new(directory, options)?, tag: tag.map(str::to_owned) };
        let is_layout = layout.staging.has(MARKER)? || layout.staging.has(INDEX)?;
        if !is_layout && layout.staging.is_filled()? {
            let problem = format!("is not empty and no OCI image layout (it has no {INDEX}): name another place");
            return Err(StoreError::Occupied { path: directory.to_owned(), problem });
        }
        // What cannot be added to is better known before the blobs have come.
        layout.present()?;
        Ok(layout)
    }

    /// The index that is there.
    fn present(&self) -> Result<OciIndex, StoreError> {
        let wrong = |problem| {
            let path = self.staging.place().join(INDEX);
            StoreError::Occupied { path, problem: format!("cannot be read: {problem}") }
        };
        match self.staging.read(INDEX)? {
            Some(bytes) => OciIndex::parse(&bytes).map_err(wrong),
            None => Ok(OciIndex::new()),
        }
    }

    /// Moves everything into the layout that is there.
    fn merge(&self, images: &[Finished]) -> Result<(), StoreError> {
        let _locked = self.staging.lock_place()?;
        let mut index = self.present()?;
        images.iter().for_each(|image| index.add(image));
        // What needs room on the disk comes first; after that there are only renames.
        self.staging.write(INDEX, &index.to_bytes())?;
        // A layout that is not marked as one, or by an empty file, is marked now.
        let marker = self.staging.read(MARKER)?.unwrap_or_default();
        if marker.trim_ascii().is_empty() {
            self.staging.write(MARKER, MARKER_CONTENT)?;
            self.staging.move_in(&[MARKER])?;
        }
        let files = self.staging.files()?;
        let blobs = files.iter().map(String::as_str).filter(|&file| file != INDEX && file != MARKER);
        self.staging.move_in(&blobs.chain([INDEX]).collect::<Vec<_>>())
    }
}

/// The path of a blob in a layout.
pub(in crate::transport) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Store for OciLayout {
    fn form(&self) -> Form {
        Form::Manifests { docker: false }
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        oci::index::names(self.tag.as_deref(), of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        self.staging.find(&blob_name(&blob.digest), blob.size)
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        self.staging.put(&blob_name(&blob.digest), content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.staging.draft()
    }

    fn adopt(&self, blob: &Stored, draft: NamedTempFile) -> Result<(), StoreError> {
        self.staging.keep(draft, &blob_name(&blob.digest))
    }

    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        for manifest in images.iter().filter_map(|image| image.manifest.as_ref()) {
            self.put_manifest(manifest)?;
        }
        if !self.staging.is_present()? {
            let mut index = OciIndex::new();
            images.iter().for_each(|image| index.add(image));
            self.staging.write(INDEX, &index.to_bytes())?;
            self.staging.write(MARKER, MARKER_CONTENT)?;
            if self.staging.become_place()? {
                return Ok(());
            }
            // Another process was quicker: there is a layout now.
        }
        self.merge(images)
    }
}
