//! Directories with a `manifest.json`: an unpacked `docker save`, or what skopeo writes as `dir:`, which is an image's
//! own manifest with its blobs beside it, each by its hex digits.

use crate::transport::docker;
use crate::transport::source::{Named, OpenOptions, Selection, SourceError, json, manifests};
use std::path::Path;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::image::{Descriptor, Document, Image, Manifest, MediaType};
use crate::transport::io::files::Files;
use crate::transport::source::manifests::Content;

const MANIFEST: &str = "manifest.json";

pub(in crate::transport) fn open(path: &Path, options: &OpenOptions) -> Result<Image, SourceError> {
    match recognise(path, options)? {
        Found::Saved(files) => docker::read::open(&files, None, options),
        Found::Manifest(content, descriptor) => manifests::open(&content, vec![*descriptor], None, options),
    }
}

/// All images of the directory, and all platforms of one.
pub(in crate::transport) fn open_set(
    path: &Path,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    match recognise(path, options)? {
        Found::Saved(files) => docker::read::open_set(&files, None, selection, options),
        Found::Manifest(content, descriptor) => {
            let content = if selection.all_platforms {
                manifests::tree(&content, vec![*descriptor], None, options)?
            } else {
                manifests::open_any(&content, vec![*descriptor], None, options)?
            };
            Ok(vec![Named { names: Vec::new(), content }])
        }
    }
}

/// The manifest or index as it is stored, if there is one.
pub(in crate::transport) fn manifest(path: &Path, options: &OpenOptions) -> Result<Option<Manifest>, SourceError> {
    match recognise(path, options)? {
        Found::Saved(_) => Ok(None),
        Found::Manifest(content, descriptor) => manifests::raw(&content, vec![*descriptor], options).map(Some),
    }
}

/// The format of a directory.
enum Found {
    /// What `docker save` writes, unpacked.
    Saved(Files),
    /// One manifest or index, with its blobs beside it.
    Manifest(Beside, Box<Descriptor>),
}

fn recognise(path: &Path, options: &OpenOptions) -> Result<Found, SourceError> {
    let files = Files::of_directory(path);
    if !files.has(MANIFEST) {
        let problem = match path.is_dir() {
            true if files.has("index.json") => "has no manifest.json: it is an OCI image layout, write oci:DIR",
            true => "has no manifest.json: it is not an unpacked docker archive",
            false => "is not a directory",
        };
        return Err(SourceError::NotAnImage { path: path.to_owned(), problem: problem.to_owned() });
    }
    let bytes = files.read(MANIFEST, None, None, options)?;
    // A list of images, or the one.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(Found::Saved(files));
    }
    let document: Document = json(MANIFEST, &bytes)?;
    let descriptor = Descriptor::of(document.media_type, &Digest::sha256_of(&bytes), bytes.len() as u64);
    Ok(Found::Manifest(Beside { digest: Digest::sha256_of(&bytes), manifest: bytes, files }, Box::new(descriptor)))
}

/// A manifest, and the files beside it.
struct Beside {
    digest: Digest,
    manifest: Vec<u8>,
    files: Files,
}

impl Beside {
    /// The file of a digest. Newer versions of skopeo put the algorithm before the digits, where it is not SHA-256.
    fn file(&self, digest: &Digest, ending: &str) -> Result<Blob, SourceError> {
        let (plain, long) =
            (format!("{}{ending}", digest.hex()), format!("{}-{}{ending}", digest.algorithm().name(), digest.hex()));
        self.files.blob(if self.files.has(&long) { &long } else { &plain })
    }
}

impl Content for Beside {
    fn find(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Blob, SourceError> {
        if *digest == self.digest {
            return Ok(Blob::from_bytes(self.manifest.clone()));
        }
        match MediaType::of(&descriptor.media_type) {
            // Of an index's manifests the files have names of their own.
            MediaType::Manifest | MediaType::Index | MediaType::Artifact => self.file(digest, &format!(".{MANIFEST}")),
            _ => self.file(digest, ""),
        }
    }
}
