//! The first step of a copy: decides for each blob, before anything is read, whether it is copied, recompressed or
//! skipped.

use std::collections::HashMap;

use super::format::{self, Format};
use super::{CopyError, CopyOptions};
use crate::blob::{Blob, Compress, Compression};
use crate::core::digest::Digest;
use crate::image::{Image, Layer};
use crate::transport::source::{Named, Tree};
use crate::transport::store::{Form, Store};

/// A blob that has to come into the store, and how.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) blob: Blob,
    pub(super) diff_id: Option<Digest>,
    pub(super) is_layer: bool,
    pub(super) way: Way,
    /// For messages.
    pub(super) what: String,
}

/// How a blob is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Byte by byte, under the digest that it has.
    AsStored,
    /// Uncompressed, under its DiffID.
    Uncompressed,
    /// Not at all: the descriptor says where else it is to be had.
    LeftOut,
    /// Made anew: what its digest will be shows when it is done.
    Made(Compress),
}

/// The tasks of some images, each once: images share blobs.
pub(super) fn plan(images: &[&Named], store: &dyn Store, options: &CopyOptions) -> Result<Vec<Task>, CopyError> {
    let (form, is_public) = (store.form(), store.is_public());
    let mut plan = Plan { tasks: Vec::new(), known: HashMap::new(), form, is_public, options };
    for image in images {
        plan.tree(&image.content)?;
    }
    Ok(plan.tasks)
}

struct Plan<'a> {
    tasks: Vec<Task>,
    /// Tasks by what their blobs state.
    known: HashMap<Key, usize>,
    form: Form,
    is_public: bool,
    options: &'a CopyOptions,
}

/// By what a blob is told from others: its digest, else its DiffID. Of bare layers nothing is known, and each is its
/// own.
pub(super) type Key = (Option<Digest>, Option<Digest>, bool);

pub(super) fn key(blob: &Blob, diff_id: Option<&Digest>, is_layer: bool) -> Option<Key> {
    let is_known = blob.digest().is_some() || diff_id.is_some();
    is_known.then(|| (blob.digest().cloned(), diff_id.cloned(), is_layer))
}

impl Plan<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<(), CopyError> {
        match tree {
            Tree::Image(image) => image.layers.iter().enumerate().try_for_each(|(index, layer)| {
                let way = self.way(layer)?;
                let what = what(image, index, layer);
                self.add(Task { blob: layer.blob.clone(), diff_id: layer.diff_id.clone(), is_layer: true, way, what });
                Ok(())
            }),
            Tree::Index(index) => index.entries.iter().try_for_each(|entry| self.tree(entry)),
            Tree::Attachment(attachment) => {
                for blob in &attachment.blobs {
                    let what = format!("attachment of {}", attachment.manifest.digest);
                    let blob = blob.clone();
                    self.add(Task { blob, diff_id: None, is_layer: false, way: Way::AsStored, what });
                }
                Ok(())
            }
        }
    }

    fn add(&mut self, task: Task) {
        if let Some(key) = key(&task.blob, task.diff_id.as_ref(), task.is_layer) {
            if self.known.contains_key(&key) {
                return;
            }
            self.known.insert(key, self.tasks.len());
        }
        self.tasks.push(task);
    }

    fn way(&self, layer: &Layer) -> Result<Way, CopyError> {
        // What only its vendor may hand out is not handed out, as Docker has it, if it can be had from there.
        let is_elsewhere = layer.is_nondistributable() && !layer.urls.is_empty();
        if is_elsewhere && self.is_public && !self.options.allow_nondistributable {
            return Ok(Way::LeftOut);
        }
        let is_stated = layer.blob.digest().is_some() && layer.media_type.is_some();
        let asked = self.options.compression.filter(|_| !(is_stated && self.options.compress_new_only));
        let wanted = match (self.form, asked) {
            (Form::Saved, _) => Compress::None,
            // Under another digest it would not be what its vendor hands out.
            (Form::Manifests { .. }, _) if is_stated && layer.is_nondistributable() => return Ok(Way::AsStored),
            (Form::Manifests { .. }, Some(wanted)) => wanted,
            (Form::Manifests { .. }, None)
                if is_stated
                    && (self.options.format != Format::Docker || format::has_layers_of(compression(layer)?)) =>
            {
                return Ok(Way::AsStored);
            }
            (Form::Manifests { .. }, None) => Compress::GZIP,
        };
        // An explicit level forces recompression; otherwise a layer already in the wanted format is kept.
        let is_so = matches!(wanted, Compress::None | Compress::GZIP | Compress::ZSTD)
            && matches!(self.form, Form::Manifests { .. })
            && is_stated
            && compression(layer)? == wanted.compression();
        Ok(match (wanted, &layer.diff_id) {
            _ if is_so => Way::AsStored,
            (Compress::None, Some(_)) => Way::Uncompressed,
            _ => Way::Made(wanted),
        })
    }
}

/// How a layer is compressed: as its media type says, which needs no byte of it, else as its first bytes show.
fn compression(layer: &Layer) -> Result<Compression, CopyError> {
    let said = layer.media_type.as_deref().unwrap_or_default();
    let ends = |ending: &str| said.ends_with(ending);
    if ends("tar+gzip") || ends("tar.gzip") {
        return Ok(Compression::Gzip);
    }
    if ends("tar+zstd") || ends("tar.zstd") {
        return Ok(Compression::Zstd);
    }
    let found = layer.blob.compression();
    found.map_err(|error| CopyError::Read { what: "the start of a layer".to_owned(), error })
}

fn what(image: &Image, index: usize, layer: &Layer) -> String {
    let of = image.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    match layer.blob.path() {
        Some(path) => format!("layer {index} ({path:?})"),
        None => format!("layer {index}{of}"),
    }
}
