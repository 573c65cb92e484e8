//! The index of a layer: all its entries, without the contents of files. It is enough to answer most questions about an
//! image.
//!
//! An index is a layer's [`Record`] and, for each file, what its content is known by: its SHA-256, most often. It is made by one pass over the
//! layer, and depends on nothing but the uncompressed archive, so that it can be kept under the layer's DiffID: an
//! image whose layers are all indexed is answered for without reading any of them. Only the index of a layer whose
//! digests were checked is kept, so a stored one says what the DiffID stands for.

mod content;
mod file;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod hashing;
mod identity;
pub(in crate::inspect) mod sparse;

use std::path::Path;

use crate::cache::Turn;
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::layer::read_layer;
use crate::core::record::Record;
use crate::image::{Image, Layer};
use crate::unpack::read::read_layers;
use crate::unpack::{Error, Options, Progress};

pub use content::{ContentError, copy_content};
pub(crate) use hashing::Hashing;

/// A file's content, as far as it is known without keeping it. The layer's
/// [`ContentId`](crate::core::record::ContentId)s count these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Content {
    hash: [u8; 32],
    /// Where that is not the SHA-256 of all bytes: the zeros that could still be hashed when the file began.
    allowance: Option<u64>,
    /// Bytes that the archive has of it; holes have none.
    pub stored: u64,
}

impl Content {
    /// The digest of all bytes, holes read as zeros. None where the holes were too large to be hashed.
    pub fn digest(&self) -> Option<Digest> {
        let is_whole = self.allowance.is_none();
        is_whole.then(|| Digest::of_hash(crate::core::digest::Algorithm::Sha256, &self.hash))
    }

    /// What no other content has: for tables.
    pub(crate) fn identity(&self) -> [u8; 32] {
        self.hash
    }
}

/// This many zeros, in pieces: what a hole reads as.
fn zeros(mut count: u64) -> impl Iterator<Item = &'static [u8]> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    std::iter::from_fn(move || {
        let piece = count.min(ZEROS.len() as u64);
        count -= piece;
        (piece > 0).then(|| &ZEROS[..piece as usize])
    })
}

/// The indexes of all layers of an image, bottom first.
#[derive(Debug, Default)]
pub struct Indexes {
    /// What each layer asks for.
    pub records: Vec<Record>,
    /// The contents of each layer's files, in archive order.
    pub contents: Vec<Vec<Content>>,
    /// Why an index could not be kept, where that was tried: the next question takes as long as this one.
    pub not_kept: Option<std::io::Error>,
}

/// What each layer asks for, if `cache` has the indexes of all of them.
pub(crate) fn known_records(image: &Image, cache: &Path) -> Option<Vec<Record>> {
    let known = |layer: &Layer| file::read(cache, layer.diff_id.as_ref()?).map(|(record, _)| record);
    image.layers.iter().map(known).collect()
}

/// The indexes of an image's layers, if `cache` has all of them: no layer is read.
pub fn known(image: &Image, cache: &Path) -> Option<Indexes> {
    let known = |layer: &Layer| file::read(cache, layer.diff_id.as_ref()?);
    let found: Option<Vec<_>> = image.layers.iter().map(known).collect();
    let (records, contents) = found?.into_iter().unzip();
    Some(Indexes { records, contents, not_kept: None })
}

/// The indexes of an image's layers. Those that `cache` has under the DiffIDs which the image states are taken from
/// there, without reading the layer; the other layers are read and checked, and their indexes kept there. A filter of
/// `options` is passed over.
///
/// # Errors
/// A damaged or hostile layer, or a digest that is not what the image states. That the cache cannot be written is none.
pub fn indexes(
    image: &Image,
    cache: Option<&Path>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Indexes, Error> {
    // What is kept under a DiffID is the layer as it is.
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let mut making = Making { image, cache, options, progress, found: Vec::new(), not_kept: None };
    making.found.resize_with(image.layers.len(), || None);
    let mut missing: Vec<usize> = (0..image.layers.len()).filter(|&layer| !making.look(layer)).collect();
    if let Some(cache) = cache {
        // What another process is at is waited for, but what nobody is at comes first: by that no two processes wait for each
        // other.
        if !missing.is_empty() {
            file::sweep(cache);
        }
        let stated = |layer: usize| image.layers[layer].diff_id.clone();
        let mut turns: Vec<(usize, Option<Turn>)> = Vec::new();
        let mut elsewhere = Vec::new();
        for layer in missing {
            match stated(layer).map(|diff_id| file::turn(cache, &diff_id)) {
                Some(None) => elsewhere.push(layer),
                turn => turns.push((layer, turn.flatten())),
            }
        }
        // One may have been made just before its turn was taken.
        turns.retain(|&(layer, _)| !making.look(layer));
        making.read(turns)?;
        for layer in elsewhere {
            let Some(diff_id) = stated(layer) else { continue };
            let turn = file::wait(cache, &diff_id, &options.waiting()).ok_or(Error::Cancelled)?;
            if !making.look(layer) {
                making.read(vec![(layer, Some(turn))])?;
            }
        }
    } else {
        making.read(missing.drain(..).map(|layer| (layer, None)).collect())?;
    }
    let Making { found, not_kept, .. } = making;
    let (records, contents) = found.into_iter().flatten().unzip();
    Ok(Indexes { records, contents, not_kept })
}

/// Indexes on their way.
struct Making<'a> {
    image: &'a Image,
    cache: Option<&'a Path>,
    options: &'a Options,
    progress: &'a dyn Progress,
    found: Vec<Option<(Record, Vec<Content>)>>,
    not_kept: Option<std::io::Error>,
}

impl Making<'_> {
    /// Takes a layer's index from the cache; whether it is there.
    fn look(&mut self, layer: usize) -> bool {
        let lower = self.options.lower_cache.as_deref();
        let known = |diff_id: &Digest| lower.into_iter().chain(self.cache).find_map(|cache| file::read(cache, diff_id));
        self.found[layer] = self.image.layers[layer].diff_id.as_ref().and_then(known);
        self.found[layer].is_some()
    }

    /// Reads layers and keeps their indexes. Those with a turn are made by this process alone.
    fn read(&mut self, turns: Vec<(usize, Option<Turn>)>) -> Result<(), Error> {
        let which: Vec<usize> = turns.iter().map(|&(layer, _)| layer).collect();
        let read = read_layers(self.image, &which, self.options, self.progress, &|_, stream, read, tell| {
            let mut hashing = Hashing::default();
            let record = read_layer(stream, &mut hashing, read, tell)?;
            Ok((record, hashing.into_contents()))
        })?;
        self.progress.settling();
        for ((layer, turn), extracted) in turns.into_iter().zip(read) {
            let (record, contents) = (extracted.record, extracted.kept);
            let diff_id = &extracted.facts.diff_id;
            if let Some(cache) = self.cache
                && let Some(turn) = turn.or_else(|| file::turn(cache, diff_id))
                && let Err(error) = file::store(cache, diff_id, &record, &contents, turn)
            {
                self.not_kept = Some(error);
            }
            self.found[layer] = Some((record, contents));
        }
        Ok(())
    }
}
