//! Content files in the cache: `contents/<algorithm>-<hex>/`, by DiffID, with `data` and `index` in it.
//!
//! A layer is read once, checked on the way (rule S3), and appears by one rename (rule S2), on disk with all that is in it (rule S6).

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

use super::index::Index;
use super::pieces::Pieces;
use super::write::{ContentWriter, Written};
use crate::cache::{Lock, UNFINISHED, remove};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::layer::read_layer;
use crate::core::record::Record;
use crate::fs::DestinationError;
use crate::image::Image;
use crate::lowerdirs::Stamp;
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
    data: File,
    _lock: Lock,
}

impl KeptLayer {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for reading.
    pub fn data(&self) -> &File {
        &self.data
    }

    /// The content file of a DiffID, if it is there and as it was made, without what is known of it.
    pub(crate) fn find(cache: &Path, diff_id: &Digest) -> Option<Self> {
        Self::open(&place(cache, diff_id))
    }

    fn open(directory: &Path) -> Option<Self> {
        let lock = Lock::shared(directory)?;
        let path = directory.join(DATA);
        let data = File::open(&path).ok()?;
        lock.touch();
        Some(Self { path, data, _lock: lock })
    }
}

/// The contents of an image's layers: those that the cache has under the DiffIDs which the image states, and the others once they are read,
/// checked and kept there. A filter of `options` is passed over.
///
/// # Errors
/// A damaged or hostile layer, a digest that is not what the image states, or a cache that cannot be written.
pub fn contents(image: &Image, cache: &Path, options: &Options, progress: &dyn Progress) -> Result<Contents, Error> {
    // What is kept under a DiffID is the layer as it is.
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let group = cache.join(GROUP);
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&group);
    made.map_err(io(format!("cannot make the cache directory {group:?}")))?;
    let known = |diff_id: &Digest| find(&place(cache, diff_id), diff_id);
    let mut found: Vec<Option<KeptContents>> =
        image.layers.iter().map(|layer| layer.diff_id.as_ref().and_then(known)).collect();
    let missing = first_of_each(image, &found);
    let drafts = missing.iter().map(|&layer| Ok((layer, Mutex::new(Some(Draft::make(&group)?)))));
    let drafts: HashMap<usize, Mutex<Option<Draft>>> =
        drafts.collect::<Result<_, std::io::Error>>().map_err(io("cannot begin a content file"))?;
    let read = read_layers(image, &missing, options, progress, &|layer, stream, read, tell| {
        let draft = drafts.get(&layer).and_then(|draft| draft.lock().ok()?.take());
        let draft = draft.ok_or_else(|| std::io::Error::other("the layer was read before"))?;
        let mut writer = ContentWriter::new(draft.data()?);
        let record = read_layer(stream, &mut writer, read, tell)?;
        Ok((record, (draft, writer.finish()?)))
    })?;
    progress.settling();
    for (layer, extracted) in missing.into_iter().zip(read) {
        found[layer] = Some(publish(cache, extracted, options)?);
    }
    for (layer, found) in image.layers.iter().zip(&mut found) {
        if found.is_none() {
            // The same as another one of the image, which is there now.
            *found = layer.diff_id.as_ref().and_then(known);
        }
    }
    let layers: Option<Vec<_>> = found.into_iter().collect();
    let layers = layers.ok_or_else(|| std::io::Error::other("another process removed it"));
    Ok(Contents { layers: layers.map_err(io("cannot find a content file in the cache"))? })
}

/// The layers that are to be read: of those with one DiffID the lowest.
fn first_of_each(image: &Image, found: &[Option<KeptContents>]) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let is_new = |&layer: &usize| image.layers[layer].diff_id.as_ref().is_none_or(|diff_id| seen.insert(diff_id));
    (0..found.len()).filter(|&layer| found[layer].is_none()).filter(is_new).collect()
}

/// A directory for a content file to be, which goes unless it is published.
#[derive(Debug)]
struct Draft {
    directory: TempDir,
    /// A concurrent `prune` leaves it alone.
    _growing: Option<Lock>,
}

impl Draft {
    fn make(group: &Path) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(group)?;
        let growing = Lock::shared(directory.path());
        Ok(Self { directory, _growing: growing })
    }

    fn made(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    fn data(&self) -> std::io::Result<File> {
        DirBuilder::new().mode(0o700).create(self.made())?;
        File::options().read(true).write(true).create_new(true).open(self.made().join(DATA))
    }
}

/// Puts a layer that was read and checked where everybody finds it.
fn publish(cache: &Path, layer: Extracted<(Draft, Written)>, options: &Options) -> Result<KeptContents, Error> {
    let Extracted { record, facts, kept: (draft, written), .. } = layer;
    let diff_id = facts.diff_id;
    let losses = written.losses.map(|name| record.names.path(name)).into_list();
    let failed = || format!("cannot keep the contents of a layer in {:?}", cache.join(GROUP));
    let stamp = Stamp::of(&written.file).map_err(io(failed()))?;
    let index = Index { diff_id, stamp, record, pieces: written.pieces, losses };
    debug_assert_eq!(stamp.size, written.length);
    let (made, durability) = (draft.made(), options.durability());
    let write = || {
        let mut file = File::create_new(made.join(INDEX))?;
        file.write_all(&index.encode()?)?;
        for file in [&written.file, &file, &File::open(&made)?] {
            durability.sync(file)?;
        }
        // Locked before it can be found: nobody removes it before the caller has used it.
        Lock::shared(&made).ok_or_else(|| std::io::Error::other("it cannot be locked"))
    };
    let lock = write().map_err(io(failed()))?;
    let place = place(cache, &index.diff_id);
    let published =
        replace_useless(&made, &place, is_useless).and_then(|()| Ok(durability.sync(File::open(cache.join(GROUP))?)?));
    let Index { diff_id, record, pieces, losses, .. } = index;
    match published {
        Ok(()) => {
            let data = File::open(place.join(DATA)).map_err(io(failed()))?;
            let kept = KeptLayer { path: place.join(DATA), data, _lock: lock };
            Ok(KeptContents { diff_id, record, pieces, losses, kept })
        }
        // Another process, or another layer of the image, was quicker.
        Err(error) => find(&place, &diff_id).ok_or(Error::from(DestinationError::Publish { path: place, error })),
    }
}

/// Renames a directory to a place where there may be one that is of no use.
pub(crate) fn replace_useless(made: &Path, place: &Path, is_useless: impl Fn(&Path) -> bool) -> std::io::Result<()> {
    match std::fs::rename(made, place) {
        Err(_) if place.exists() && is_useless(place) => {
            let removed = remove(place).map_err(std::io::Error::other)?;
            if removed { std::fs::rename(made, place) } else { Err(std::io::ErrorKind::AlreadyExists.into()) }
        }
        other => other,
    }
}

fn is_useless(place: &Path) -> bool {
    read(place).is_none()
}

fn place(cache: &Path, diff_id: &Digest) -> PathBuf {
    cache.join(GROUP).join(format!("{}-{}", diff_id.algorithm().name(), diff_id.hex()))
}

/// The layer in a place, if all of it is as it was made (rule S8).
fn find(place: &Path, diff_id: &Digest) -> Option<KeptContents> {
    let kept = KeptLayer::open(place)?;
    let Index { diff_id: found, record, pieces, losses, .. } = read(place)?;
    (found == *diff_id).then_some(KeptContents { diff_id: found, record, pieces, losses, kept })
}

fn read(place: &Path) -> Option<Index> {
    let index = Index::decode(&std::fs::read(place.join(INDEX)).ok()?)?;
    let data = File::open(place.join(DATA)).ok()?;
    index.stamp.is_of(&data).then_some(index)
}
