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

use std::path::Path;

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
    /// Whether it looks like a private key in PEM or OpenPGP's armour.
    pub private_key: bool,
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
    let known = |diff_id: &Digest| file::read(cache?, diff_id);
    let mut found: Vec<Option<(Record, Vec<Content>)>> =
        image.layers.iter().map(|layer| layer.diff_id.as_ref().and_then(known)).collect();
    let missing: Vec<usize> = (0..found.len()).filter(|&layer| found[layer].is_none()).collect();
    let read = read_layers(image, &missing, options, progress, &|_, stream, read, tell| {
        let mut hashing = Hashing::default();
        let record = read_layer(stream, &mut hashing, read, tell)?;
        Ok((record, hashing.into_contents()))
    })?;
    progress.settling();
    let mut not_kept = None;
    for (layer, extracted) in missing.into_iter().zip(read) {
        let (record, contents) = (extracted.record, extracted.kept);
        if let Some(cache) = cache
            && let Err(error) = file::store(cache, &extracted.facts.diff_id, &record, &contents)
        {
            not_kept = Some(error);
        }
        found[layer] = Some((record, contents));
    }
    let (records, contents) = found.into_iter().flatten().unzip();
    Ok(Indexes { records, contents, not_kept })
}
