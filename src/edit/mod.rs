//! Makes a new image from an image without rewriting a layer: layers are put on top, and its configuration is changed.
//!
//! What is not changed keeps its bytes: layers and their digests, and in the configuration and the manifest every field
//! that is not named, known or not. The same image and the same edit give the same image: no clock is asked.

mod changes;
mod error;
mod layer;
mod signatures;

use crate::core::digest::Digest;
use crate::core::layer::{Discard, read_layer};
use crate::image::document::Object;
use crate::image::{Config, Image, Manifest, history};
use crate::transport::source::{Index, Named, OpenOptions, Selection, SourceError, Tree, open_set};
use crate::unpack::read::read_layers;
use crate::unpack::{Options, Progress};

pub use changes::{Changes, Field};
pub use error::EditError;
pub use layer::{NewLayer, of_archive, of_directory};
pub use signatures::signatures;

/// What the image is based on, for whoever rebases it later (image specification, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What is to become of an image.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Layers to put on top, the lowest first.
    pub layers: Vec<NewLayer>,
    /// What is to be changed in its configuration.
    pub changes: Changes,
    /// What the history is to say of how it was made; each new layer says it for itself when `None`. Without new layers
    /// the history gets a line only if this or `comment` is given.
    pub created_by: Option<String>,
    /// What else the history is to say.
    pub comment: Option<String>,
    /// Say in the manifest's annotations that the image as it was, of this name, is what the new one is based on.
    pub base: Option<String>,
}

/// Opens the images that are to be edited: the one that the reference names, or, for `all_platforms`, all of its index.
///
/// # Errors
/// As for [`open_set`]; several platforms, where neither one of them nor all were asked for.
pub fn open(
    reference: &crate::core::reference::Reference,
    all_platforms: bool,
    options: &OpenOptions,
) -> Result<Vec<Named>, EditError> {
    let one = Selection::default();
    if options.platform.is_some() {
        return Ok(open_set(reference, one, options)?);
    }
    let opened = match open_set(reference, Selection { all_platforms: true, ..one }, options) {
        // An engine saves an index with the blobs of its own platform alone.
        Err(SourceError::Missing(_)) if !all_platforms => open_set(reference, one, options)?,
        opened => opened?,
    };
    if all_platforms {
        return Ok(opened);
    }
    opened.into_iter().map(|Named { names, content }| Ok(Named { names, content: only(content)? })).collect()
}

/// The one image of an index.
fn only(tree: Tree) -> Result<Tree, EditError> {
    let Tree::Index(index) = tree else { return Ok(tree) };
    let mut images = Vec::new();
    collect(index, &mut images);
    match images.len() {
        1 => Ok(Tree::Image(Box::new(images.remove(0)))),
        0 => Err(EditError::NoImage),
        _ => {
            let platform = |image: &Image| image.config.as_ref().map(|config| config.platform().to_string());
            Err(EditError::SeveralPlatforms { platforms: images.iter().filter_map(platform).collect() })
        }
    }
}

fn collect(index: Index, images: &mut Vec<Image>) {
    for entry in index.entries {
        match entry {
            Tree::Image(image) => images.push(*image),
            Tree::Index(index) => collect(index, images),
            Tree::Attachment(_) => {}
        }
    }
}

/// Edits every image, also those that indexes list. What is attached to images stays as it is.
///
/// # Errors
/// As [`edit`]; something that is not an image.
pub fn edit_all(
    images: Vec<Named>,
    wanted: &Edit,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Named>, EditError> {
    let edited = |mut image: Named| {
        if let Tree::Attachment(other) = &image.content {
            return Err(EditError::NotAnImage { kind: other.kind.clone() });
        }
        let mut pending = vec![&mut image.content];
        while let Some(tree) = pending.pop() {
            match tree {
                Tree::Image(image) => **image = edit(image, wanted, options, progress)?,
                Tree::Index(index) => pending.extend(&mut index.entries),
                Tree::Attachment(_) => {}
            }
        }
        Ok(image)
    };
    images.into_iter().map(edited).collect()
}

/// Edits an image.
///
/// # Errors
/// A configuration that cannot be changed or becomes too large, a layer without a stated DiffID that cannot be read.
pub fn edit(image: &Image, wanted: &Edit, options: &Options, progress: &dyn Progress) -> Result<Image, EditError> {
    let mut edited = image.clone();
    if !wanted.layers.is_empty() || image.config.is_none() {
        state_diff_ids(&mut edited, options, progress)?;
    }
    let lowest = edited.layers.len();
    edited.layers.extend(wanted.layers.iter().map(|new| new.layer.clone()));
    let diff_ids: Vec<Digest> = edited.layers.iter().filter_map(|layer| layer.diff_id.clone()).collect();
    let config = match &image.config {
        None => Config::of_bare_layers(&diff_ids)?,
        Some(config) if wanted.layers.is_empty() => config.clone(),
        Some(config) => config.with_diff_ids(&diff_ids)?,
    };
    let was = Object::parse(&config.bytes).map_err(EditError::Configuration)?;
    let mut document = was.clone();
    wanted.changes.apply(&mut document);
    remember(&mut document, lowest, wanted);
    // What changes nothing leaves also the white space as it was.
    edited.config = Some(if document.to_bytes() == was.to_bytes() { config } else { config_of(&document, options)? });
    if let (Some(manifest), Some(name)) = (&image.manifest, &wanted.base) {
        edited.manifest = Some(based_on(manifest, name)?);
    }
    Ok(edited)
}

/// States the DiffIDs of layers that have none, by reading them: of bare layers, and of an image that says nothing.
fn state_diff_ids(image: &mut Image, options: &Options, progress: &dyn Progress) -> Result<(), EditError> {
    let unknown: Vec<usize> = (0..image.layers.len()).filter(|&layer| image.layers[layer].diff_id.is_none()).collect();
    let read = read_layers(image, &unknown, options, progress, &|_, stream, reading, tell| {
        Ok((read_layer(stream, &mut Discard::default(), reading, tell)?, ()))
    })?;
    for (layer, read) in unknown.into_iter().zip(read) {
        image.layers[layer].diff_id = Some(read.facts.diff_id);
    }
    Ok(())
}

/// Adds the lines to the history that tell of the edit.
fn remember(document: &mut Object, lowest: usize, wanted: &Edit) {
    let Edit { layers, created_by, comment, .. } = wanted;
    if layers.is_empty() && created_by.is_none() && comment.is_none() {
        return;
    }
    let created = document.string("created");
    let line = |by: Option<&str>| history::line(created.as_deref(), by, comment.as_deref());
    let mut lines = document.objects("history");
    if layers.is_empty() {
        let mut line = line(created_by.as_deref());
        line.set("empty_layer", &true);
        lines.push(line);
    } else {
        history::pad(&mut lines, lowest);
        lines.extend(layers.iter().map(|new| line(Some(created_by.as_deref().unwrap_or(&new.created_by)))));
    }
    document.set("history", &lines);
}

fn config_of(document: &Object, options: &Options) -> Result<Config, EditError> {
    let bytes = document.to_bytes();
    let (size, limit) = (bytes.len() as u64, options.limits.metadata_size);
    if size > limit {
        return Err(EditError::TooLarge { size, limit });
    }
    Ok(Config::parse(bytes)?)
}

/// The manifest, with the annotations that name the image it is of. It keeps its digest, by which an index knows the
/// image that is replaced.
fn based_on(manifest: &Manifest, name: &str) -> Result<Manifest, EditError> {
    let mut document = Object::parse(&manifest.bytes).map_err(EditError::Manifest)?;
    let mut annotations = document.map("annotations");
    annotations.insert(BASE_NAME, &name);
    annotations.insert(BASE_DIGEST, &manifest.digest);
    document.set("annotations", &annotations);
    Ok(Manifest { bytes: document.to_bytes(), ..manifest.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::image::Layer;
    use crate::unpack::NoProgress;

    fn image(config: &str) -> Image {
        let layer = Layer { diff_id: Some(Digest::sha256_of(b"base")), ..Layer::bare(Blob::from_bytes(*b"base")) };
        let config = Some(Config::parse(config.as_bytes().to_vec()).unwrap());
        Image { name: None, manifest: None, config, layers: vec![layer], notices: Vec::new() }
    }

    fn top() -> NewLayer {
        let layer = Layer { diff_id: Some(Digest::sha256_of(b"top")), ..Layer::bare(Blob::from_bytes(*b"top")) };
        NewLayer { layer, created_by: "layflat append top.tar".to_owned(), not_kept: Vec::new() }
    }

    fn edited(config: &str, wanted: &Edit) -> String {
        let edited = edit(&image(config), wanted, &Options::default(), &NoProgress).unwrap();
        String::from_utf8(edited.config.unwrap().bytes).unwrap()
    }

    #[test]
    fn a_layer_is_remembered_in_rootfs_and_history() {
        let [base, new] = [&b"base"[..], b"top"].map(Digest::sha256_of);
        let stored = format!(
            r#"{{"created":"2024-01-01T00:00:00Z","x":1.50,"rootfs":{{"type":"layers","diff_ids":["{base}"],"y":{{}}}},"history":[{{"created_by":"base","z":1}}]}}"#
        );
        let wanted = Edit { layers: vec![top()], comment: Some("note".to_owned()), ..Edit::default() };
        let expected = format!(
            r#"{{"created":"2024-01-01T00:00:00Z","x":1.50,"rootfs":{{"type":"layers","diff_ids":["{base}","{new}"],"y":{{}}}},"history":[{{"created_by":"base","z":1}},{{"created":"2024-01-01T00:00:00Z","created_by":"layflat append top.tar","comment":"note"}}]}}"#
        );
        assert_eq!(edited(&stored, &wanted), expected);
    }

    #[test]
    fn a_history_without_lines_for_the_layers_below_gets_them() {
        let stored = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}},"history":null}}"#, Digest::sha256_of(b"base"));
        let wanted = Edit { layers: vec![top()], ..Edit::default() };
        let text = edited(&stored, &wanted);
        let image = Config::parse(text.into_bytes()).unwrap();
        let history = &image.parsed.history;
        assert_eq!(history.iter().filter(|line| !line.empty_layer).count(), 2);
        assert_eq!(history[1].created_by, "layflat append top.tar");
    }

    #[test]
    fn what_changes_nothing_changes_no_byte() {
        let stored =
            format!("{{ \"rootfs\": {{\"diff_ids\" : [\"{}\"]}},\n\"author\":\"me\" }}", Digest::sha256_of(b"base"));
        let changes = Changes { author: Some("me".to_owned()), ..Changes::default() };
        assert_eq!(edited(&stored, &Edit { changes, ..Edit::default() }), stored);
        assert_eq!(edited(&stored, &Edit::default()), stored);
    }

    #[test]
    fn a_configuration_that_no_reader_would_take_is_refused() {
        let mut options = Options::default();
        options.limits.metadata_size = 100;
        let label = ("k".to_owned(), Some("v".repeat(100)));
        let changes = Changes { labels: vec![label], ..Changes::default() };
        let stored = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, Digest::sha256_of(b"base"));
        let error = edit(&image(&stored), &Edit { changes, ..Edit::default() }, &options, &NoProgress).unwrap_err();
        assert!(matches!(error, EditError::TooLarge { limit: 100, .. }), "{error}");
    }
}
