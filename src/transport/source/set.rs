//! Several images at once: all that a source has, and all platforms of one, with what belongs to them. For whoever
//! hands images on rather than unpacking one.

use crate::transport::{dir, docker, oci, registry};
use std::collections::HashSet;
use std::path::Path;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::core::reference::Reference;
use crate::image::document::{self, Document};
use crate::image::{Image, Manifest, Notice};
use crate::transport::io::files::Files;
use crate::transport::source::required::admit_path;
use crate::transport::source::{OpenOptions, SourceError, open};

/// How much of a source is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// Every image of the source, under all its names, rather than the one that the reference names.
    pub all_tags: bool,
    /// Indexes whole, with every platform's image and what else they list, rather than the one image that suits.
    pub all_platforms: bool,
}

/// An image or index of a source, with its names.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its names at the source: `name:tag`, or only a tag.
    pub names: Vec<String>,
    /// What it is.
    pub content: Tree,
}

/// An image, or an index of several.
#[derive(Debug, Clone)]
pub enum Tree {
    /// One image.
    Image(Box<Image>),
    /// An index.
    Index(Index),
    /// A manifest of something else: an attestation, a signature, a Helm chart.
    Attachment(Attachment),
}

/// An index, and all that it lists.
#[derive(Debug, Clone)]
pub struct Index {
    /// The index as it is stored.
    pub document: Manifest,
    /// What it lists, in its order.
    pub entries: Vec<Tree>,
}

/// A manifest that is not an image's, with its blobs.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The manifest as it is stored.
    pub manifest: Manifest,
    /// What it is, in words: `a Helm chart (application/vnd.cncf.helm.config.v1+json)`.
    pub kind: String,
    /// Everything that it references.
    pub blobs: Vec<Blob>,
}

impl Attachment {
    /// Its configuration, if it has one.
    pub fn config(&self) -> Option<&Blob> {
        let document: Document = document::read(&self.manifest.bytes).ok()?;
        let stated: Digest = document.config?.digest.parse().ok()?;
        self.blobs.iter().find(|blob| blob.digest() == Some(&stated))
    }
}

/// Opens all that is wanted of a source. No layer is read yet.
///
/// # Errors
/// As for [`open`]; and a source that holds one image only, when all were asked for.
pub fn open_set(reference: &Reference, selection: Selection, options: &OpenOptions) -> Result<Vec<Named>, SourceError> {
    let mut images = open_all(reference, selection, options)?;
    if selection.all_tags {
        name_once(&mut images);
    }
    Ok(images)
}

/// A name leads to one image. Where a source has several of a name, the later ones would take it from the first, which
/// nobody would find again.
fn name_once(images: &mut [Named]) {
    let mut taken = HashSet::new();
    for Named { names, content } in images {
        let (own, others) = std::mem::take(names).into_iter().partition(|name| taken.insert(name.clone()));
        *names = own;
        if let Tree::Image(image) = content {
            let digest = image.manifest_digest().or(image.config.as_ref().map(|config| &config.digest));
            let digest = digest.map_or_else(|| "another".to_owned(), |digest| format!("@{digest}"));
            let lost = |name: String| Notice::NameTaken { name, image: digest.clone() };
            let lost: Vec<Notice> = Vec::into_iter(others).map(lost).collect();
            image.notices.extend(lost);
        }
    }
}

fn open_all(reference: &Reference, selection: Selection, options: &OpenOptions) -> Result<Vec<Named>, SourceError> {
    crate::transport::source::admit(reference, options)?;
    match reference {
        Reference::DockerArchive { file, name } => {
            docker::read::open_set(&Files::of_archive(file, options)?, name.as_deref(), selection, options)
        }
        Reference::OciArchive { file, tag } => {
            oci::read::open_set(&Files::of_archive(file, options)?, tag.as_deref(), selection, options)
        }
        Reference::OciLayout { directory, tag } => {
            oci::read::open_set(&Files::of_directory(directory), tag.as_deref(), selection, options)
        }
        Reference::Registry(name) => registry::read::open_set(name, selection, options),
        Reference::Directory(path) => dir::read::open_set(path, selection, options),
        Reference::Path(path) => of_path(reference, path, selection, options),
        _ if selection.all_tags => {
            let problem = "does not list its images, so that not all can be taken".to_owned();
            Err(SourceError::Unsupported { name: reference.to_string(), problem })
        }
        _ => one(reference, options),
    }
}

/// Recognises what a path leads to.
fn of_path(
    reference: &Reference,
    path: &Path,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    if selection == Selection::default() {
        match one(reference, options) {
            Err(SourceError::Artifact { .. } | SourceError::Unsupported { .. }) => {}
            opened => return opened,
        }
    }
    let files = if path.is_dir() { Files::of_directory(path) } else { Files::of_archive(path, options)? };
    let is_directory = path.is_dir();
    // Of an archive that is both, the index says more.
    if files.has("index.json") {
        admit_path(if is_directory { "oci" } else { "oci-archive" }, path, options)?;
        return oci::read::open_set(&files, None, selection, options);
    }
    if is_directory {
        admit_path("dir", path, options)?;
        return dir::read::open_set(path, selection, options);
    }
    if files.has("manifest.json") {
        admit_path("docker-archive", path, options)?;
        return docker::read::open_set(&files, None, selection, options);
    }
    one(reference, options)
}

fn one(reference: &Reference, options: &OpenOptions) -> Result<Vec<Named>, SourceError> {
    let image = open(reference, options)?;
    Ok(vec![Named { names: image.name.clone().into_iter().collect(), content: Tree::Image(Box::new(image)) }])
}
