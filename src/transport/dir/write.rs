//! Directories as an unpacked `docker save` has them: `manifest.json`, configurations, and one folder a layer. Packed
//! with tar, one is a docker archive.

use crate::transport::docker;
use std::io::Read;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::image::document::{self, SavedImage};
use crate::transport::docker::saved::{MANIFEST, REPOSITORIES};
use crate::transport::io::staging::Staging;
use crate::transport::store::{Finished, Form, OpenOptions, Presence, Store, StoreError, Stored};

/// A directory that images are put into.
#[derive(Debug)]
pub(in crate::transport) struct Dir {
    staging: Staging,
}

impl Dir {
    pub(in crate::transport) fn open(directory: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let occupied = |problem: &str| {
            Err(StoreError::Occupied { path: directory.to_owned(), problem: format!("{problem}: name another place") })
        };
        let dir = Self { staging: Staging::new(directory, options)? };
        if dir.staging.has("index.json")? {
            return occupied("is an OCI image layout, which other programs keep in step with what is in it");
        }
        if !dir.staging.has(MANIFEST)? && dir.staging.is_filled()? {
            return occupied("is not empty and no unpacked docker archive (it has no manifest.json)");
        }
        dir.present()?;
        Ok(dir)
    }

    /// The images that are there.
    fn present(&self) -> Result<Vec<SavedImage>, StoreError> {
        let Some(bytes) = self.staging.read(MANIFEST)? else { return Ok(Vec::new()) };
        document::read(&bytes).map_err(|error| {
            let path = self.staging.place().join(MANIFEST);
            let problem = format!("is not a list of images as `docker save` writes it: {error}; name another place");
            StoreError::Occupied { path, problem }
        })
    }

    /// Writes what names the images, last: what is there already, and what has come.
    fn write_lists(&self, mut items: Vec<SavedImage>, images: &[Finished]) -> Result<(), StoreError> {
        docker::saved::add(&mut items, images);
        self.staging.write(REPOSITORIES, &docker::saved::repositories(&items))?;
        self.staging.write(MANIFEST, &docker::saved::manifest(&items)?)
    }

    fn merge(&self, images: &[Finished]) -> Result<(), StoreError> {
        let _locked = self.staging.lock_place()?;
        self.write_lists(self.present()?, images)?;
        let files = self.staging.files()?;
        let others = files.iter().map(String::as_str).filter(|&file| file != MANIFEST);
        self.staging.move_in(&others.chain([MANIFEST]).collect::<Vec<_>>())
    }
}

impl Store for Dir {
    fn form(&self) -> Form {
        Form::Saved
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        docker::saved::names(None, of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        self.staging.find(&docker::saved::name_of(blob), blob.size)
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        self.staging.put(&docker::saved::name_of(blob), content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.staging.draft()
    }

    fn adopt(&self, blob: &Stored, draft: NamedTempFile) -> Result<(), StoreError> {
        self.staging.keep(draft, &docker::saved::name_of(blob))
    }

    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        if !self.staging.is_present()? {
            self.write_lists(Vec::new(), images)?;
            if self.staging.become_place()? {
                return Ok(());
            }
            // Another process was quicker: there is a directory now.
        }
        self.merge(images)
    }
}
