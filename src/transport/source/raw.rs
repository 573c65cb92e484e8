//! Answers questions that need no layer: the manifest or index exactly as stored, and the names of images.

use crate::transport::{dir, docker, engine, oci, registry};
use std::io::Read as _;
use std::path::Path;

use crate::core::reference::{Platform, Reference};
use crate::image::{Document, Manifest};
use crate::transport::io::files::Files;
use crate::transport::source::manifests::without_attachments;
use crate::transport::source::{OpenOptions, SourceError, is_compressed, json};

/// The manifest of an image as it is stored, or its index where there is one and `options` name no platform. Sources
/// without manifests, like docker archives, have none. It is checked against its digest, and need not be an image's.
///
/// # Errors
/// As for [`open`](crate::transport::source::open).
pub fn manifest(reference: &Reference, options: &OpenOptions) -> Result<Option<Manifest>, SourceError> {
    let layout = |files: &Files, tag: Option<&str>| oci::read::manifest(files, tag, options).map(Some);
    match reference {
        Reference::Registry(name) => registry::read::manifest(name, options).map(Some),
        Reference::OciLayout { directory, tag } => layout(&Files::of_directory(directory), tag.as_deref()),
        Reference::OciArchive { file, tag } => layout(&Files::of_archive(file, options)?, tag.as_deref()),
        Reference::Directory(path) => dir::read::manifest(path, options),
        Reference::Path(path) => {
            let files = of_path(path, options)?;
            match files.has("index.json") {
                true => layout(&files, None),
                false if path.is_dir() && files.has("manifest.json") => dir::read::manifest(path, options),
                false => Ok(None),
            }
        }
        Reference::DockerArchive { .. } | Reference::DockerDaemon(_) | Reference::Layers(_) => Ok(None),
    }
}

/// The platforms that the index of a multi-platform image lists, in its order. None where there is one image, and none of a
/// compressed archive, which would have to be decompressed once more for that.
///
/// # Errors
/// As for [`open`](crate::transport::source::open).
pub fn platforms(reference: &Reference, options: &OpenOptions) -> Result<Vec<Platform>, SourceError> {
    if let Reference::OciArchive { file, .. } | Reference::Path(file) = reference
        && !file.is_dir()
        && is_stream_or_compressed(file)?
    {
        return Ok(Vec::new());
    }
    let options = OpenOptions { platform: None, ..options.clone() };
    let Some(found) = manifest(reference, &options)? else { return Ok(Vec::new()) };
    let document: Document = json(&found.digest.to_string(), &found.bytes)?;
    let entries = without_attachments(document.manifests.unwrap_or_default());
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in entries.into_iter().filter_map(|entry| entry.platform) {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Whether an archive can only be read from its beginning.
fn is_stream_or_compressed(path: &Path) -> Result<bool, SourceError> {
    let io = |error| SourceError::Io { path: path.to_owned(), error };
    let Some((mut file, _)) = crate::fs::open_regular(path).map_err(io)? else { return Ok(true) };
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
    Ok(is_compressed(&start))
}

/// The names of all images of a source: the tags of a repository, the names in an archive, a layout or an engine. An
/// image without a name is called `@` and what it can be named by.
///
/// # Errors
/// A source that cannot be read, or that has no names.
pub fn names(reference: &Reference, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    let saved = |files: &Files| docker::read::names(files, options);
    match reference {
        Reference::Registry(name) => registry::read::tags(name, options),
        Reference::DockerArchive { file, .. } => saved(&Files::of_archive(file, options)?),
        Reference::OciLayout { directory, .. } => oci::read::all(&Files::of_directory(directory), options),
        Reference::OciArchive { file, .. } => oci::read::all(&Files::of_archive(file, options)?, options),
        Reference::DockerDaemon(image) => engine::read::names(Some(image), options),
        Reference::Directory(path) => saved(&Files::of_directory(path)),
        Reference::Path(path) => {
            let files = of_path(path, options)?;
            match files.has("index.json") {
                true => oci::read::all(&files, options),
                false => saved(&files),
            }
        }
        Reference::Layers(_) => {
            let problem = "are layers, which have no names".to_owned();
            Err(SourceError::Unsupported { name: reference.to_string(), problem })
        }
    }
}

/// The names of all images of an engine.
///
/// # Errors
/// The engine cannot be reached.
pub fn engine_names(options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    engine::read::names(None, options)
}

fn of_path(path: &Path, options: &OpenOptions) -> Result<Files, SourceError> {
    if path.is_dir() { Ok(Files::of_directory(path)) } else { Files::of_archive(path, options) }
}
