//! Where images go: the counterpart of [`source`](crate::transport::source). A store takes blobs, each checked by
//! whoever reads it out, and shows images under their names at the very end: until then nothing of them is to be seen,
//! and after an error nothing is left.

pub(in crate::transport) mod error;

use crate::transport::{dir, docker, engine, oci, registry};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::blob::{Blob, VerifiedReader};
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::limits::Limits;
use crate::core::reference::{ImageName, Reference};
use crate::fs::Durability;
use crate::image::Manifest;
#[cfg(feature = "registry")]
use crate::net::registry::RegistryOptions;

pub use error::StoreError;

/// Bytes handed on at once.
pub(in crate::transport) const CHUNK: usize = 256 << 10;

/// How a store wants images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Manifests and indexes, and blobs as they are stored, by their digests.
    Manifests {
        /// Whether Docker's media types are accepted, too. In OCI layouts no reader knows them: skopeo, Podman and
        /// umoci refuse.
        docker: bool,
    },
    /// As `docker save` has it: the configuration, and layers uncompressed by their DiffIDs; no manifest and no index.
    Saved,
}

/// The role of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobKind {
    /// A layer.
    Layer,
    /// A configuration.
    Config,
    /// A manifest, an index, or what an attachment holds.
    Other,
}

/// A blob that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: BlobKind,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// How many there are, where that is known before they come.
    pub size: Option<u64>,
}

/// Whether a store has a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The store does not have it.
    Missing,
    /// The store has it, with this size.
    There(u64),
    /// The registry mounted it from another repository, without an upload.
    Mounted(u64),
}

/// An image whose blobs are all stored, to be shown under its names.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its names, as [`Store::names`] gave them; none is fine.
    pub names: Vec<String>,
    /// Its manifest or index, for stores that take manifests.
    pub manifest: Option<Manifest>,
    /// Digest of the configuration, and the DiffIDs of its layers, bottom first, for stores that take saved images.
    pub saved: Option<(Digest, Vec<Digest>)>,
    /// What it refers to, where it is there for that: then its names are tags, and it may have none.
    pub subject: Option<Digest>,
}

/// A place that images are put into. It is used from several threads at once.
pub trait Store: Send + Sync {
    /// How it wants images.
    fn form(&self) -> Form;

    /// Whether it takes one blob after the other: then several threads are of no use, and the order of the blobs should
    /// be always the same.
    fn is_sequential(&self) -> bool {
        false
    }

    /// Whether what is put into it is handed out to others, as by a registry.
    fn is_public(&self) -> bool {
        false
    }

    /// What an image is to be called here: as whoever named the store has it, else as the source has it. Where
    /// `several` come, each keeps its tag.
    ///
    /// # Errors
    /// A name that cannot stand here, or none where there must be one.
    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError>;

    /// Whether a blob is there already.
    ///
    /// # Errors
    /// The store cannot be asked.
    fn find(&self, blob: &Stored) -> Result<Presence, StoreError>;

    /// Stores what a reader gives, which is checked by the reader: if it fails, nothing is stored.
    ///
    /// # Errors
    /// The reader's, as [`StoreError::Content`], and the store's own.
    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError>;

    /// Stores a blob as it is, checked on the way. `tell` hears how many bytes have gone, and ends it by an error.
    ///
    /// # Errors
    /// As for [`put`](Store::put).
    fn put_blob(&self, stored: &Stored, blob: &Blob, tell: Tell<'_>) -> Result<u64, StoreError> {
        self.put(stored, &mut Told { reader: blob.verified_reader(), count: 0, tell })
    }

    /// A file for a blob that is only now being made, near to where it will stay.
    ///
    /// # Errors
    /// The destination cannot be created.
    fn draft(&self) -> Result<NamedTempFile, StoreError>;

    /// Stores a blob that was made in a [`draft`](Store::draft).
    ///
    /// # Errors
    /// As for [`put`](Store::put).
    fn adopt(&self, blob: &Stored, draft: NamedTempFile) -> Result<(), StoreError> {
        let mut file = draft.reopen().map_err(|error| StoreError::io(draft.path(), error))?;
        self.put(blob, &mut file).map(|_| ())
    }

    /// Stores a manifest or an index, if it is not there.
    ///
    /// # Errors
    /// As for [`put`](Store::put).
    fn put_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let blob =
            Stored { kind: BlobKind::Other, digest: manifest.digest.clone(), size: Some(manifest.bytes.len() as u64) };
        match self.find(&blob)? {
            Presence::Missing => self.put(&blob, &mut manifest.bytes.as_slice()).map(|_| ()),
            Presence::There(_) | Presence::Mounted(_) => Ok(()),
        }
    }

    /// Shows one image, all of whose blobs are stored, where each is shown by itself, as at a registry; other stores
    /// wait for [`publish`](Store::publish), which is called after it in any case.
    ///
    /// # Errors
    /// It is not shown then.
    fn show(&self, _: &Finished) -> Result<(), StoreError> {
        Ok(())
    }

    /// Shows images, all of whose blobs are stored. Nothing of what was stored was to be seen before.
    ///
    /// # Errors
    /// Nothing is shown then.
    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError>;
}

/// Hears how many bytes have gone; its error ends it.
pub type Tell<'a> = &'a dyn Fn(u64) -> std::io::Result<()>;

/// A reader that tells how far it is.
pub(in crate::transport) struct Told<'a> {
    reader: VerifiedReader,
    count: u64,
    tell: Tell<'a>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (self.tell)(self.count)?;
        let count = self.reader.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The most that may be read of what is there already.
    pub limits: Limits,
    /// Stops the waiting for another process, or for a registry.
    pub cancel: Cancel,
    /// How registries are talked to.
    #[cfg(feature = "registry")]
    pub registry: RegistryOptions,
    /// Do not wait until what is stored here is on disk (rule S6).
    pub no_sync: bool,
    /// Where an engine listens, as for [`source::OpenOptions`](crate::transport::source::OpenOptions).
    pub daemon: Option<String>,
    /// The repository that the images come from, if they come from one: its registry has their blobs already.
    pub origin: Option<ImageName>,
}

impl OpenOptions {
    pub(in crate::transport) fn durability(&self) -> Durability {
        Durability::unless(self.no_sync)
    }
}

/// Opens the place that a reference names, to put images into it.
///
/// # Errors
/// A place that no image can be put into, or that is something else.
pub fn open(reference: &Reference, options: &OpenOptions) -> Result<Box<dyn Store>, StoreError> {
    match reference {
        Reference::OciLayout { directory, tag } => {
            Ok(Box::new(oci::layout::OciLayout::open(directory, tag.as_deref(), options)?))
        }
        Reference::OciArchive { file, tag } => {
            Ok(Box::new(oci::archive::OciArchive::open(file, tag.as_deref(), options)?))
        }
        Reference::DockerArchive { file, name } => {
            Ok(Box::new(docker::archive::DockerArchive::open(file, name.as_deref(), options)?))
        }
        Reference::Directory(directory) => Ok(Box::new(dir::write::Dir::open(directory, options)?)),
        Reference::Registry(name) => registry::write::open(name, options),
        Reference::DockerDaemon(image) => engine::write::open(image, options),
        Reference::Layers(_) => Err(StoreError::CannotWrite {
            place: reference.to_string(),
            problem: "names layers, which can only be read".to_owned(),
        }),
        Reference::Path(path) => {
            let path = path.display();
            Err(StoreError::CannotWrite {
                place: path.to_string(),
                problem: format!(
                    "has no format: write oci:{path}[:TAG], oci-archive:{path}[:TAG], docker-archive:{path}[:NAME:TAG] or dir:{path}"
                ),
            })
        }
    }
}

/// Copies everything from a reader.
pub(crate) fn pour(content: &mut dyn Read, out: &mut dyn Write, path: &Path) -> Result<u64, StoreError> {
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                out.write_all(&buffer[..count]).map_err(|error| StoreError::io(path, error))?;
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::Content(error)),
        }
    }
}

/// The tag in a source's name, or all of a name that is a tag alone.
pub(in crate::transport) fn tag_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ if name.contains('/') => "latest",
        _ => name,
    }
}

/// The value of a mutex. A poisoned mutex is fine: the thread that panicked ends the copy anyway.
pub(in crate::transport) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
