//! What `docker save` writes and `docker load` reads, as files by name: the same in an archive and unpacked in a
//! directory.
//!
//! `manifest.json` lists the images; each has its configuration's file, and a folder for each of its layers. A layer's
//! folder is named by the DiffID, so that images share their layers. Layers are stored uncompressed, as Docker, Podman
//! and skopeo store them: the configuration states nothing but DiffIDs, and so only uncompressed layers can be told by
//! what is stated of them.

use serde_json::{Map, Value};

use crate::core::digest::Digest;
use crate::core::reference::ImageName;
use crate::image::document::SavedImage;
use crate::transport::store::{BlobKind, Finished, StoreError, Stored};

pub(in crate::transport) const MANIFEST: &str = "manifest.json";
pub(in crate::transport) const REPOSITORIES: &str = "repositories";

/// An image by its configuration and its layers' DiffIDs.
pub(in crate::transport) fn item(names: Vec<String>, config: &Digest, layers: &[Digest]) -> SavedImage {
    let config = file_name(BlobKind::Config, config);
    let layers = layers.iter().map(|layer| file_name(BlobKind::Layer, layer)).collect();
    SavedImage { config, repo_tags: Some(names).filter(|names| !names.is_empty()), layers }
}

/// Paths in the archive.
pub(in crate::transport) fn file_name(kind: BlobKind, digest: &Digest) -> String {
    match kind {
        BlobKind::Layer => format!("{}/{LAYER}", digest.hex()),
        BlobKind::Config | BlobKind::Other => format!("{}.json", digest.hex()),
    }
}

/// The file of a layer in its folder.
pub(in crate::transport) const LAYER: &str = "layer.tar";

pub(in crate::transport) fn name_of(blob: &Stored) -> String {
    file_name(blob.kind, &blob.digest)
}

/// Adds images to those that are listed. A name that another one had is theirs now; what has lost its last name so is
/// no longer listed.
pub(in crate::transport) fn add(items: &mut Vec<SavedImage>, images: &[Finished]) {
    for image in images {
        let Some((config, layers)) = &image.saved else { continue };
        let mut new = item(image.names.clone(), config, layers);
        items.retain_mut(|item| {
            let Some(tags) = &mut item.repo_tags else { return true };
            tags.retain(|tag| !image.names.iter().any(|name| whole(name) == whole(tag)));
            !tags.is_empty() || item.config == new.config
        });
        match items.iter_mut().find(|item| item.config == new.config && item.layers == new.layers) {
            Some(same) => {
                let mut tags = same.repo_tags.take().unwrap_or_default();
                tags.append(new.repo_tags.get_or_insert_default());
                same.repo_tags = Some(tags).filter(|tags| !tags.is_empty());
            }
            None => items.push(new),
        }
    }
}

/// The name by which names are compared.
fn whole(name: &str) -> String {
    name.parse::<ImageName>().map_or_else(|_| name.to_owned(), |name| name.complete().to_string())
}

/// The list of images as it is stored.
pub(in crate::transport) fn manifest(items: &[SavedImage]) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(items).map_err(|error| StoreError::io(MANIFEST.as_ref(), std::io::Error::from(error)))
}

/// `repositories`, the list of names that was there before `manifest.json`: of each the topmost layer.
pub(in crate::transport) fn repositories(items: &[SavedImage]) -> Vec<u8> {
    let mut all = Map::new();
    for item in items {
        let top = item.layers.last().and_then(|layer| layer.split('/').next()).unwrap_or_default();
        for tag in item.repo_tags.iter().flatten() {
            if let Some((name, tag)) = tag.rsplit_once(':') {
                let tags = all.entry(name).or_insert_with(|| Value::Object(Map::new()));
                tags[tag] = top.into();
            }
        }
    }
    Value::Object(all).to_string().into_bytes()
}

/// The names of an image: complete, as engines expect them, with `latest` as the default tag.
///
/// A layout knows an image by a tag alone, which is not a name here: `of_source` counts only as far as it holds names,
/// or as tags for the name that is `own`.
pub(in crate::transport) fn names(
    own: Option<&str>,
    of_source: &[String],
    several: bool,
) -> Result<Vec<String>, StoreError> {
    let full = |name: &str| name.parse::<ImageName>().map(|name| name.complete());
    let Some(own) = own else {
        let is_name = |name: &&String| name.contains([':', '/']);
        if several && let Some(tag) = of_source.iter().find(|name| !is_name(name)) {
            return Err(StoreError::NameNeeded(format!(
                "{tag:?} is a tag alone, and an image needs a name here: write docker-archive:FILE:NAME"
            )));
        }
        return of_source.iter().filter(is_name).map(|name| written(&full(name)?)).collect();
    };
    if !several {
        return Ok(vec![written(&full(own)?)?]);
    }
    let name: ImageName = own.parse()?;
    if name.tag().is_some() {
        return Err(StoreError::OneTag(own.to_owned()));
    }
    of_source.iter().map(|source| written(&name.with_tag(crate::transport::store::tag_of(source))?)).collect()
}

fn written(name: &ImageName) -> Result<String, StoreError> {
    if name.digest().is_some() {
        return Err(StoreError::NameNeeded(format!("{name}: an image is given a tag, not a digest")));
    }
    Ok(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chain::Chain;

    fn finished(names: &[&str], config: &[u8]) -> Finished {
        let saved = Some((Digest::sha256_of(config), vec![Digest::sha256_of(b"layer")]));
        Finished { names: names.iter().map(|&name| name.to_owned()).collect(), manifest: None, saved, subject: None }
    }

    #[test]
    fn a_name_belongs_to_the_image_that_got_it_last() {
        let mut items = Vec::new();
        add(&mut items, &[finished(&["a:1", "a:2"], b"one"), finished(&[], b"two")]);
        add(&mut items, &[finished(&["docker.io/library/a:1"], b"three")]);
        let tags: Vec<_> = items.iter().map(|item| item.repo_tags.clone().unwrap_or_default().join(" ")).collect();
        assert_eq!(tags, ["a:2", "", "docker.io/library/a:1"]);
        add(&mut items, &[finished(&["a:2"], b"three")]);
        let tags: Vec<_> = items.iter().map(|item| item.repo_tags.clone().unwrap_or_default().join(" ")).collect();
        assert_eq!(tags, ["", "docker.io/library/a:1 a:2"]);
    }

    #[test]
    fn names_are_whole() {
        let names = |own: Option<&str>, source: &[&str], several| {
            let source: Vec<String> = source.iter().map(|&name| name.to_owned()).collect();
            names(own, &source, several).map(|names| names.join(" ")).map_err(|error| Chain(&error).to_string())
        };
        assert_eq!(names(Some("debian"), &["12"], false).unwrap(), "docker.io/library/debian:latest");
        assert_eq!(names(None, &["12", "quay.io/a:1"], false).unwrap(), "quay.io/a:1");
        assert_eq!(names(Some("host:5000/a"), &["12", "b:c"], true).unwrap(), "host:5000/a:12 host:5000/a:c");
        assert!(names(None, &["12"], true).unwrap_err().contains("docker-archive:FILE:NAME"));
        assert!(names(Some("a:1"), &["12"], true).unwrap_err().contains("a tag of its own"));
        assert!(names(Some("No"), &[], false).unwrap_err().contains("upper-case"));
    }
}
