//! Archives as `docker save` writes them, and Podman, skopeo, buildah and kaniko after it: `manifest.json` lists the
//! images, each with its configuration's file and its layers' files.
//!
//! Up to Docker 24 the layers are `<id>/layer.tar`, some of them symlinks to another one's file; from 25 on they are
//! `blobs/sha256/<hex>`, and the archive is an OCI layout as well. Podman, skopeo and buildah have `<hex>.tar` at the
//! top, kaniko compressed ones.

use crate::transport::source::{Named, OpenOptions, Selection, SourceError, Tree, check_platform, incomplete, json};
use std::path::Path;

use crate::core::digest::{Algorithm, Digest};
use crate::image::document::SavedImage;
use crate::image::{Config, Image, Layer, Notice};
use crate::transport::io::files::Files;
use crate::transport::source::names::canonical;

pub(in crate::transport) const BEFORE_1_10: &str =
    "was saved by Docker before 1.10 and has no manifest.json: load it into a newer engine and save it again";

const MANIFEST: &str = "manifest.json";

pub(in crate::transport) fn open(
    files: &Files,
    name: Option<&str>,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let (item, name) = choose(items(files, options)?, name, files.path())?;
    let image = Image { name, ..image(files, item, options)? };
    check_platform(&image, options)?;
    Ok(image)
}

/// All images of the archive, or the one that was asked for.
pub(in crate::transport) fn open_set(
    files: &Files,
    name: Option<&str>,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    if !selection.all_tags {
        let image = open(files, name, options)?;
        return Ok(vec![Named { names: image.name.clone().into_iter().collect(), content: Tree::Image(image.into()) }]);
    }
    let named = |item: SavedImage| {
        let names = item.repo_tags.clone().unwrap_or_default();
        let image = Image { name: names.first().cloned(), ..image(files, item, options)? };
        check_platform(&image, options)?;
        Ok(Named { names, content: Tree::Image(image.into()) })
    };
    items(files, options)?.into_iter().map(named).collect()
}

/// The names of all images.
pub(in crate::transport) fn names(files: &Files, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    let names = |(index, item): (usize, SavedImage)| match item.repo_tags {
        Some(tags) if !tags.is_empty() => tags,
        _ => vec![format!("@{index}")],
    };
    Ok(items(files, options)?.into_iter().enumerate().flat_map(names).collect())
}

/// The images that the archive lists.
fn items(files: &Files, options: &OpenOptions) -> Result<Vec<SavedImage>, SourceError> {
    if !files.has(MANIFEST) {
        let problem = if files.has("repositories") {
            BEFORE_1_10
        } else if files.has("index.json") {
            "has no manifest.json: it is an OCI archive, write oci-archive:FILE"
        } else {
            "has no manifest.json: it is not a docker archive; if it is a bare layer, write layers:FILE"
        };
        return Err(SourceError::NotAnImage { path: files.path().to_owned(), problem: problem.to_owned() });
    }
    json(MANIFEST, &files.read(MANIFEST, None, None, options)?)
}

fn image(files: &Files, item: SavedImage, options: &OpenOptions) -> Result<Image, SourceError> {
    let config = Config::parse(files.read(&item.config, None, None, options)?)?;
    let mut notices = Vec::new();
    // People edit the configuration and pack the archive again, and engines load it: a name is not a statement (rule
    // D2).
    let named = digest_in_name(&item.config);
    if let Some(named) = named.filter(|named| *named != Digest::of(named.algorithm(), &config.bytes)) {
        let found = Digest::of(named.algorithm(), &config.bytes);
        notices.push(Notice::FileName { file: item.config.clone(), found });
    }
    let paths = item.layers;
    let diff_ids = incomplete::diff_ids(&config, paths.len(), options)?;
    let layer = |(path, diff_id): (&String, Option<Digest>)| {
        let blob = incomplete::blob(files.blob(path), None, None, options)?;
        // Names elsewhere, as Podman and skopeo give them, are those of what is inside.
        let file_digest = path.contains("blobs/").then(|| digest_in_name(path)).flatten();
        Ok(Layer { file_digest, ..Layer::bare(blob) }.with_diff_id(diff_id))
    };
    let layers = paths.iter().zip(diff_ids).map(layer).collect::<Result<_, SourceError>>()?;
    Ok(Image { name: None, manifest: None, config: Some(config), layers, notices })
}

/// Finds the image that was asked for.
fn choose(
    items: Vec<SavedImage>,
    wanted: Option<&str>,
    path: &Path,
) -> Result<(SavedImage, Option<String>), SourceError> {
    // A name that several have tells none of them apart.
    let is_shared = |tag: &String| {
        items.iter().filter(|item| item.repo_tags.iter().flatten().any(|other| other == tag)).count() > 1
    };
    let names: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(index, item)| match item.repo_tags.as_deref() {
            Some([]) | None => format!("@{index}"),
            Some(tags) if tags.iter().any(is_shared) => format!("@{index}"),
            Some(tags) => tags.join(" = "),
        })
        .collect();
    let Some(wanted) = wanted else {
        let count = items.len();
        let mut items = items;
        return match (items.pop(), count) {
            (Some(item), 1) => {
                let name = item.repo_tags.as_ref().and_then(|tags| tags.first().cloned());
                Ok((item, name))
            }
            (None, _) => Err(SourceError::NotAnImage {
                path: path.to_owned(),
                problem: format!("holds no image: its {MANIFEST} lists none"),
            }),
            _ => Err(SourceError::Ambiguous { names }),
        };
    };
    let by_index = wanted.strip_prefix('@').and_then(|index| index.parse::<usize>().ok());
    for (index, item) in items.into_iter().enumerate() {
        let tags = item.repo_tags.as_deref().unwrap_or_default();
        if let Some(tag) = tags.iter().find(|tag| canonical(tag) == canonical(wanted)) {
            let tag = tag.clone();
            return Ok((item, Some(tag)));
        }
        if by_index == Some(index) {
            let name = tags.first().cloned();
            return Ok((item, name));
        }
    }
    Err(SourceError::NoSuchImage { wanted: wanted.to_owned(), names })
}

/// `<hex>.json`, `blobs/sha256/<hex>` and `sha256:<hex>` name the digest of what they hold; the length of the digits
/// tells the algorithm.
fn digest_in_name(name: &str) -> Option<Digest> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let file = file.split('.').next().unwrap_or(file);
    [Algorithm::Sha256, Algorithm::Sha512].into_iter().find_map(|algorithm| {
        let prefix = format!("{}:", algorithm.name());
        let hex = file.strip_prefix(&prefix).unwrap_or(file);
        format!("{prefix}{hex}").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_names() {
        let digest = Digest::sha256_of(b"");
        for name in [format!("{}.json", digest.hex()), format!("blobs/sha256/{}", digest.hex()), digest.to_string()] {
            assert_eq!(digest_in_name(&name), Some(digest.clone()));
        }
        let long = Digest::of(Algorithm::Sha512, b"");
        assert_eq!(digest_in_name(&format!("blobs/sha512/{}", long.hex())), Some(long));
        assert_eq!(digest_in_name("config.json"), None);
    }
}
