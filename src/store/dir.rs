//! Directories as an unpacked `docker save` has them: `manifest.json`, configurations, and one folder a layer. Packed with tar, one is a
//! docker archive.

use std::io::Read;
use std::path::Path;

use tempfile::NamedTempFile;

use super::docker_save::{self, MANIFEST, REPOSITORIES};
use super::staging::Staging;
use super::{Finished, Form, Found, OpenOptions, Store, StoreError, Stored};
use crate::image::document::{self, SavedImage};

/// A directory that images are put into.
#[derive(Debug)]
pub(super) struct Dir {
    staging: Staging,
}

impl Dir {
    pub(super) fn open(directory: &Path, _: &OpenOptions) -> Result<Self, StoreError> {
        let occupied = |problem: &str| {
            Err(StoreError::Occupied { path: directory.to_owned(), problem: format!("{problem}: name another place") })
        };
        if directory.join("index.json").exists() {
            return occupied("is an OCI image layout, which other programs keep in step with what is in it");
        }
        let empty = || std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
        if directory.is_dir() && !directory.join(MANIFEST).exists() && !empty() {
            return occupied("is not empty and no unpacked docker archive (it has no manifest.json)");
        }
        let dir = Self { staging: Staging::new(directory)? };
        dir.present()?;
        Ok(dir)
    }

    /// The images that are there.
    fn present(&self) -> Result<Vec<SavedImage>, StoreError> {
        let path = self.staging.place().join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        document::read(&bytes).map_err(|error| {
            let problem = format!("is no list of images as `docker save` writes it: {error}; name another place");
            StoreError::Occupied { path, problem }
        })
    }

    /// Writes what names the images, last: what is there already, and what has come.
    fn write_lists(&self, mut items: Vec<SavedImage>, images: &[Finished]) -> Result<(), StoreError> {
        docker_save::add(&mut items, images);
        self.staging.write(REPOSITORIES, &docker_save::repositories(&items))?;
        self.staging.write(MANIFEST, &docker_save::manifest(&items)?)
    }

    fn merge(&self, images: &[Finished]) -> Result<(), StoreError> {
        let _locked = self.staging.lock_place()?;
        self.write_lists(self.present()?, images)?;
        for file in self.staging.files()? {
            if file != MANIFEST {
                self.staging.move_in(&file)?;
            }
        }
        self.staging.move_in(MANIFEST)
    }
}

impl Store for Dir {
    fn form(&self) -> Form {
        Form::Saved
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        docker_save::names(None, of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Found, StoreError> {
        self.staging.find(&docker_save::name_of(blob), blob.size)
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        self.staging.put(&docker_save::name_of(blob), content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.staging.draft()
    }

    fn adopt(&self, blob: &Stored, draft: NamedTempFile) -> Result<(), StoreError> {
        self.staging.keep(draft, &docker_save::name_of(blob))
    }

    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        if !self.staging.place().exists() {
            self.write_lists(Vec::new(), images)?;
            if self.staging.become_place()? {
                return Ok(());
            }
            // Another process was quicker: there is a directory now.
        }
        self.merge(images)
    }
}
