//! Content files in the cache: `contents/<algorithm>-<hex>/`, by DiffID, with `data`, `index` and `seal.json` in it.
//!
//! A layer is read once, checked on the way (rule S3), and appears by one rename (rule S2), on disk with all that is in it (rule S6).

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::index::Index;
use super::pieces::Pieces;
use super::write::{ContentWriter, Written};
use crate::cache::{Draft, Lock, Of, SEAL, Turn, file_name, recognise, recognised, replace_useless, sweep};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::layer::read_layer;
use crate::core::record::Record;
use crate::fs::DestinationError;
use crate::image::Image;
use crate::lowerdirs::{Check, FileSeal, Stamp};
use crate::unpack::read::{Extracted, read_layers};
use crate::unpack::{Error, Loss, Options, Progress, io};

/// The group of content files in a cache.
const GROUP: &str = "contents";
/// The content file.
const DATA: &str = "data";
/// What is known of it.
const INDEX: &str = "index";

/// The contents of an image's layers, bottom first.
#[derive(Debug)]
pub struct Contents {
    /// Each layer's; the same one may be there several times.
    pub layers: Vec<KeptContents>,
}

/// A layer whose contents are kept.
#[derive(Debug)]
pub struct KeptContents {
    /// The uncompressed layer.
    pub diff_id: Digest,
    /// What it asks for.
    pub record: Record,
    /// Where the contents of its files lie in the content file.
    pub pieces: Pieces,
    /// What of it nobody can carry out (rule A4).
    pub losses: Vec<Loss>,
    /// The content file.
    pub kept: KeptLayer,
}

/// A content file, which is not removed from the cache as long as this is held.
#[derive(Debug)]
pub struct KeptLayer {
    path: PathBuf,
    seal: FileSeal,
    /// None where it is in no cache.
    _lock: Option<Lock>,
}

impl KeptLayer {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was when it was made.
    pub fn seal(&self) -> &FileSeal {
        &self.seal
    }

    /// The content file of a DiffID, if it is there and as it was made, without what is known of it.
    pub(crate) fn find(of: Of, cache: &Path, diff_id: &Digest, check: &Check) -> Option<Self> {
        let place = place(cache, diff_id);
        let lock = Lock::shared_in(of, &place)?;
        let seal = recognised(of, &place, DATA, check)?;
        lock.touch();
        Some(Self { path: place.join(DATA), seal, _lock: Some(lock) })
    }

    /// Recognises it from now on by another stamp, which it got from something that left its bytes alone.
    pub(crate) fn renew(&self, stamp: Stamp) {
        if let Some(place) = self.path.parent() {
            recognise(place, &FileSeal { stamp, ..self.seal.clone() });
        }
    }
}

/// The contents of an image's layers: those that the cache has under the DiffIDs which the image states, and the others once they are read,
/// checked and kept there. With `every_byte` also those that are there are read, and made anew where they were changed. A filter of `options` is
/// passed over.
///
/// # Errors
/// A damaged or hostile layer, a digest that is not what the image states, or a cache that cannot be written.
pub fn contents(
    image: &Image,
    cache: &Path,
    every_byte: bool,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Contents, Error> {
    let check = &Check { every_byte, cancel: options.cancel.clone() };
    // What is kept under a DiffID is the layer as it is.
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let group = cache.join(GROUP);
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&group);
    made.map_err(io(format!("cannot make the cache directory {group:?}")))?;
    let known = |diff_id: &Digest, check: &Check| {
        let lower = options.lower_cache.as_deref();
        if let Some(found) = lower.and_then(|lower| find(Of::Lower, &place(lower, diff_id), diff_id, check)) {
            return Some(found);
        }
        let place = place(cache, diff_id);
        let found = find(Of::Own, &place, diff_id, check);
        if found.is_none() && place.exists() && !options.cancel.is_cancelled() {
            options.notes.tell(format!("what the cache has of layer {diff_id} is not as it was made: it is read anew"));
        }
        found
    };
    let mut found: Vec<Option<KeptContents>> =
        image.layers.iter().map(|layer| layer.diff_id.as_ref().and_then(|diff_id| known(diff_id, check))).collect();
    let missing = first_of_each(image, &found);
    if !missing.is_empty() {
        sweep(&group);
    }
    // What another process is at is waited for, but what nobody is at comes first: by that no two processes wait for each other.
    let mut turns: Vec<(usize, Option<Turn>)> = Vec::new();
    let mut elsewhere = Vec::new();
    for layer in missing {
        match image.layers[layer].diff_id.as_ref().map(|diff_id| (diff_id, Turn::try_take(&group, &file_name(diff_id))))
        {
            Some((diff_id, None)) => elsewhere.push((layer, diff_id)),
            turn => turns.push((layer, turn.and_then(|(_, turn)| turn))),
        }
    }
    let keep = |turns: Vec<(usize, Option<Turn>)>, found: &mut Vec<Option<KeptContents>>| {
        // One may have been made just before its turn was taken.
        for (layer, _) in &turns {
            found[*layer] = image.layers[*layer]
                .diff_id
                .as_ref()
                .and_then(|diff_id| find(Of::Own, &place(cache, diff_id), diff_id, check));
        }
        let (missing, turns): (Vec<usize>, Vec<Option<Turn>>) =
            turns.into_iter().filter(|(layer, _)| found[*layer].is_none()).unzip();
        let made = make(image, cache, &missing, check, options, progress)?;
        missing.into_iter().zip(made).for_each(|(layer, made)| found[layer] = Some(made));
        drop(turns);
        Ok::<_, Error>(())
    };
    keep(turns, &mut found)?;
    for (layer, diff_id) in elsewhere {
        let what = format_args!("reads layer {diff_id}");
        let turn = Turn::take(&group, &file_name(diff_id), &options.waiting(), &what).ok_or(Error::Cancelled)?;
        keep(vec![(layer, Some(turn))], &mut found)?;
    }
    for (layer, found) in image.layers.iter().zip(&mut found) {
        if found.is_none() {
            // The same as another one of the image, which is there now.
            *found = layer.diff_id.as_ref().and_then(|diff_id| known(diff_id, &Check::default()));
        }
    }
    let layers: Option<Vec<_>> = found.into_iter().collect();
    let layers = layers.ok_or_else(|| std::io::Error::other("another process removed it"));
    Ok(Contents { layers: layers.map_err(io("cannot find a content file in the cache"))? })
}

/// Reads layers and keeps their contents.
fn make(
    image: &Image,
    cache: &Path,
    missing: &[usize],
    check: &Check,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<KeptContents>, Error> {
    let group = &cache.join(GROUP);
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let drafts = missing.iter().map(|&layer| Ok((layer, Mutex::new(Some(Draft::make(group)?)))));
    let drafts: HashMap<usize, Mutex<Option<Draft>>> =
        drafts.collect::<Result<_, std::io::Error>>().map_err(io("cannot begin a content file"))?;
    let read = read_layers(image, missing, options, progress, &|layer, stream, read, tell| {
        let draft = drafts.get(&layer).and_then(|draft| draft.lock().ok()?.take());
        let draft = draft.ok_or_else(|| std::io::Error::other("the layer was read before"))?;
        let mut writer = ContentWriter::new(data(&draft.made())?, stream.stream.pace());
        let record = read_layer(stream, &mut writer, read, tell)?;
        Ok((record, (draft, writer.finish()?)))
    })?;
    progress.settling();
    let failed = || format!("cannot keep the contents of layers in {group:?}");
    let finished = read.into_iter().map(finish).collect::<std::io::Result<Vec<_>>>().map_err(io(failed()))?;
    let sync = File::open(group).and_then(|group| Ok(options.durability().sync_tree(&group)?));
    sync.map_err(io(failed()))?;
    let made = finished.into_iter().map(|finished| publish(cache, finished, check)).collect::<Result<_, _>>()?;
    let sync = File::open(group).and_then(|group| Ok(options.durability().sync(&group)?));
    sync.map_err(io(failed()))?;
    Ok(made)
}

/// The layers that are to be read: of those with one DiffID the lowest.
fn first_of_each(image: &Image, found: &[Option<KeptContents>]) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let is_new = |&layer: &usize| image.layers[layer].diff_id.as_ref().is_none_or(|diff_id| seen.insert(diff_id));
    (0..found.len()).filter(|&layer| found[layer].is_none()).filter(is_new).collect()
}

/// The content file of a layer that is about to be read.
pub(super) fn data(place: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(place.join(DATA))
}

/// A layer that was read and checked, all of it written.
struct Finished {
    draft: Draft,
    index: Index,
    seal: FileSeal,
}

fn finish(layer: Extracted<(Draft, Written)>) -> std::io::Result<Finished> {
    let Extracted { record, facts, kept: (draft, written), .. } = layer;
    let (index, seal) = describe(&draft.made(), facts.diff_id, record, written)?;
    Ok(Finished { draft, index, seal })
}

/// Writes beside a content file what is known of it.
pub(super) fn describe(
    place: &Path,
    diff_id: Digest,
    record: Record,
    written: Written,
) -> std::io::Result<(Index, FileSeal)> {
    let Written { seal, pieces, losses } = written;
    let losses = losses.map(|name| record.names.path(name)).into_list();
    let verity = seal.verity.clone().ok_or(std::io::ErrorKind::InvalidData)?;
    let index = Index { diff_id, size: seal.stamp.size, verity, record, pieces, losses };
    for (name, bytes) in [(INDEX, index.encode()?), (SEAL, seal.to_json())] {
        File::create_new(place.join(name))?.write_all(&bytes)?;
    }
    Ok((index, seal))
}

/// Puts a layer that is on disk where everybody finds it.
fn publish(cache: &Path, finished: Finished, check: &Check) -> Result<KeptContents, Error> {
    let Finished { draft, index, seal } = finished;
    let Index { diff_id, record, pieces, losses, .. } = index;
    let (made, place) = (draft.made(), place(cache, &diff_id));
    // Locked before it can be found: nobody removes it before the caller has used it.
    let lock = Lock::shared(&made).ok_or_else(|| std::io::Error::other("it cannot be locked"));
    let lock = lock.map_err(io(format!("cannot keep the contents of a layer in {place:?}")))?;
    match replace_useless(&made, &place, |place| read(Of::Own, place, check).is_none()) {
        Ok(()) => {
            let kept = KeptLayer { path: place.join(DATA), seal, _lock: Some(lock) };
            Ok(KeptContents { diff_id, record, pieces, losses, kept })
        }
        // Another process, or another layer of the image, was quicker.
        Err(error) => {
            let found = find(Of::Own, &place, &diff_id, &Check::default());
            found.ok_or(Error::from(DestinationError::Publish { path: place, error }))
        }
    }
}

fn place(cache: &Path, diff_id: &Digest) -> PathBuf {
    cache.join(GROUP).join(format!("{}-{}", diff_id.algorithm().name(), diff_id.hex()))
}

/// The layer in a place, if all of it is as it was made (rule S8).
fn find(of: Of, place: &Path, diff_id: &Digest, check: &Check) -> Option<KeptContents> {
    let lock = Lock::shared_in(of, place)?;
    let found = at(of, place, check).filter(|found| found.diff_id == *diff_id)?;
    lock.touch();
    Some(KeptContents { kept: KeptLayer { _lock: Some(lock), ..found.kept }, ..found })
}

/// The layer in a place, whatever its DiffID, if all of it is as it was made.
pub(super) fn at(of: Of, place: &Path, check: &Check) -> Option<KeptContents> {
    let (Index { diff_id, record, pieces, losses, .. }, seal) = read(of, place, check)?;
    let kept = KeptLayer { path: place.join(DATA), seal, _lock: None };
    Some(KeptContents { diff_id, record, pieces, losses, kept })
}

fn read(of: Of, place: &Path, check: &Check) -> Option<(Index, FileSeal)> {
    let index = Index::decode(&std::fs::read(place.join(INDEX)).ok()?)?;
    let seal = recognised(of, place, DATA, check)?;
    (seal.verity.as_ref() == Some(&index.verity) && seal.stamp.size == index.size).then_some((index, seal))
}
