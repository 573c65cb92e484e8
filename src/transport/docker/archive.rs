//! Writes docker archives, as `docker load` and `podman load` accept them. Several images share one archive, and their
//! layers in it.

use crate::transport::docker;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use tempfile::NamedTempFile;

use crate::blob::{Blob, Compression};
use crate::core::reference::Reference;
use crate::image::document::SavedImage;
use crate::transport::docker::saved::{MANIFEST, REPOSITORIES};
use crate::transport::io::tarball::{ArchiveFile, Tarball};
use crate::transport::source::{self, Selection, Tree};
use crate::transport::store::{BlobKind, Finished, Form, OpenOptions, Presence, Store, StoreError, Stored, locked};

/// A docker archive that images are put into.
#[derive(Debug)]
pub(in crate::transport) struct DockerArchive {
    file: ArchiveFile,
    name: Option<String>,
    /// The images that were there.
    items: Vec<SavedImage>,
    /// Their files, by the names that they will have.
    present: HashMap<String, Blob>,
    written: Mutex<Written>,
}

/// What was written to the new archive so far.
#[derive(Debug)]
struct Written {
    archive: Tarball,
    /// The files and their sizes.
    files: BTreeMap<String, u64>,
}

impl DockerArchive {
    pub(in crate::transport) fn open(
        path: &Path,
        name: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let file = ArchiveFile::open(path, options)?;
        let (mut items, mut present) = (Vec::new(), HashMap::new());
        if file.has_content()? {
            refuse_compressed(&file)?;
            for named in images(&file, options)? {
                let Tree::Image(image) = named.content else { continue };
                let Some(config) = image.config else { continue };
                let layers: Vec<_> = image.layers.iter().filter_map(|layer| layer.diff_id.clone()).collect();
                items.push(docker::saved::item(named.names, &config.digest, &layers));
                let config_name = docker::saved::file_name(BlobKind::Config, &config.digest);
                present.insert(config_name, Blob::from_bytes(config.bytes).stated(Some(config.digest), None));
                for (diff_id, layer) in layers.iter().zip(image.layers) {
                    let name = docker::saved::file_name(BlobKind::Layer, diff_id);
                    let io = |error| StoreError::io(file.place(), error);
                    let blob = match layer.blob.compression().map_err(io)? {
                        Compression::None => layer.blob.stated(Some(diff_id.clone()), None),
                        // Of these bytes nothing is stated.
                        _ => layer.blob,
                    };
                    present.insert(name, blob);
                }
            }
        }
        let written = Mutex::new(Written { archive: Tarball::new(file.draft()?), files: BTreeMap::new() });
        Ok(Self { file, name: name.map(str::to_owned), items, present, written })
    }
}

/// The images that are there.
fn images(file: &ArchiveFile, options: &OpenOptions) -> Result<Vec<source::Named>, StoreError> {
    let reference = Reference::DockerArchive { file: file.place().to_owned(), name: None };
    let options = source::OpenOptions {
        limits: options.limits,
        cancel: options.cancel.clone(),
        ..source::OpenOptions::default()
    };
    let all = Selection { all_tags: true, all_platforms: false };
    source::open_set(&reference, all, &options).map_err(StoreError::Present)
}

/// Adding to a compressed archive would leave it uncompressed, under a name that says otherwise.
pub(in crate::transport) fn refuse_compressed(file: &ArchiveFile) -> Result<(), StoreError> {
    let mut start = [0; Compression::START];
    let opened = std::fs::File::open(file.place()).map_err(|error| StoreError::io(file.place(), error))?;
    let count = crate::fs::read_at(&opened, &mut start, 0).map_err(|error| StoreError::io(file.place(), error))?;
    match Compression::detect(&start[..count]) {
        Compression::None => Ok(()),
        compression => {
            let problem = format!("is compressed ({}): decompress it first, to add to it", compression.name());
            Err(StoreError::Occupied { path: file.place().to_owned(), problem })
        }
    }
}

impl Written {
    /// Adds a file, once.
    fn file(&mut self, name: String, content: &mut dyn Read) -> Result<u64, StoreError> {
        if let Some(size) = self.files.get(&name) {
            return Ok(*size);
        }
        if let Some(folder) = name.strip_suffix(docker::saved::LAYER) {
            self.archive.directory(folder)?;
        }
        let size = self.archive.file(&name, content)?;
        self.files.insert(name, size);
        Ok(size)
    }

    /// Adds a file that was there.
    fn take_over(&mut self, name: String, present: &Blob) -> Result<u64, StoreError> {
        self.file(name.clone(), &mut present.verified_reader()).map_err(|error| error.of_present(&name))
    }
}

impl Store for DockerArchive {
    fn form(&self) -> Form {
        Form::Saved
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        docker::saved::names(self.name.as_deref(), of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        let name = docker::saved::name_of(blob);
        let mut written = locked(&self.written);
        if let Some(size) = written.files.get(&name) {
            return Ok(Presence::There(*size));
        }
        // The image that was asked about will need it, whether or not one that was there still does. What cannot be
        // checked is of no use to it.
        match self.present.get(&name).filter(|present| present.digest().is_some()) {
            Some(present) => written.take_over(name, present).map(Presence::There),
            None => Ok(Presence::Missing),
        }
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        locked(&self.written).file(docker::saved::name_of(blob), content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.file.draft()
    }

    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        let Self { file, mut items, present, written, .. } = *self;
        let mut written = written.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        docker::saved::add(&mut items, images);
        // Only files that are still listed are copied.
        for name in items.iter().flat_map(|item| item.layers.iter().chain([&item.config])) {
            if !written.files.contains_key(name) {
                let missing = || StoreError::io(file.place(), std::io::Error::other(format!("{name} was not stored")));
                let blob = present.get(name).ok_or_else(missing)?;
                written.take_over(name.clone(), blob)?;
            }
        }
        written.file(MANIFEST.to_owned(), &mut docker::saved::manifest(&items)?.as_slice())?;
        written.file(REPOSITORIES.to_owned(), &mut docker::saved::repositories(&items).as_slice())?;
        file.publish(written.archive)
    }
}
