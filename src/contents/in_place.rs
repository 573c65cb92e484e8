//! Plain layers where the user's own archive has them: nothing of them is copied but what cannot be pointed at.
//!
//! Whoever can write the archive can change what a mount of it shows, setuid files included, whenever they like. So it is only used if nobody less
//! privileged can (rule C3).

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::Blocks;
use super::locate::{Locating, Skipping};
use super::pieces::{Lies, Pieces};
use crate::blob::Compression;
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::layer::{ReadOptions, read_headers, read_layer};
use crate::core::record::Record;
use crate::fs::{Unguarded, check_guarded};
use crate::image::{Image, Layer};
use crate::parallel;
use crate::unpack::read::read_layers;
use crate::unpack::{Error, Loss, Options, Progress, WhichLayer, io};

/// Why a layer cannot be used in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotInPlace {
    /// It must be decompressed.
    #[error("layer {layer} is compressed ({}): only plain layers can be used in place", .compression.name())]
    Compressed {
        /// Which layer.
        layer: usize,
        /// How.
        compression: Compression,
    },
    /// It lies in no file that stays.
    #[error("layer {0} does not lie in a file of its own: it came from a registry, a pipe or a compressed archive")]
    NoFile(usize),
    /// It cannot be looked at.
    #[error("layer {layer}: {error}")]
    Read {
        /// Which layer.
        layer: usize,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// Others could change it.
    #[error(transparent)]
    Unguarded(#[from] Unguarded),
}

/// A layer that can be used in place.
#[derive(Debug, Clone)]
pub struct PlainLayer {
    /// The file that it lies in, under its real path.
    pub path: PathBuf,
    /// The same, open.
    pub file: Arc<File>,
    /// Where it begins there.
    pub start: u64,
    /// Its bytes.
    pub length: u64,
}

/// Where the contents of such a layer lie.
#[derive(Debug)]
pub struct LocatedLayer {
    /// The digest of the layer, if all of it was read.
    pub diff_id: Option<Digest>,
    /// What it asks for.
    pub record: Record,
    /// Where the contents of its files lie.
    pub pieces: Pieces,
    /// What of it nobody can carry out (rule A4).
    pub losses: Vec<Loss>,
}

/// The layers of an image, if all of them can be used where they lie.
///
/// # Errors
/// The first that cannot.
pub fn plain_layers(image: &Image) -> Result<Vec<PlainLayer>, NotInPlace> {
    let mut guarded: Option<PathBuf> = None;
    let layers = image.layers.iter().enumerate().map(|(index, layer)| {
        let plain = plain(index, layer)?;
        // Many layers lie in one archive.
        if guarded.as_ref() != Some(&plain.path) {
            check_guarded(&plain.path)?;
            guarded = Some(plain.path.clone());
        }
        Ok(plain)
    });
    layers.collect()
}

fn plain(index: usize, layer: &Layer) -> Result<PlainLayer, NotInPlace> {
    let unreadable = |error| NotInPlace::Read { layer: index, error };
    let (file, start) = layer.blob.part_of_file().map_err(unreadable)?.ok_or(NotInPlace::NoFile(index))?;
    match layer.blob.compression().map_err(unreadable)? {
        Compression::None => {}
        compression => return Err(NotInPlace::Compressed { layer: index, compression }),
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(unreadable)?;
    // A spooled archive has no name any more.
    let named = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file);
    let open = file.metadata().map_err(unreadable)?;
    if named.is_none_or(|named| (named.dev(), named.ino()) != (open.dev(), open.ino())) || !path.is_absolute() {
        return Err(NotInPlace::NoFile(index));
    }
    debug_assert!(!path.as_os_str().as_bytes().is_empty());
    Ok(PlainLayer { path, file, start, length: layer.blob.len() })
}

/// Finds out where the contents of layers lie, and copies what cannot be pointed at to `beside`, one file for all layers. With `verify` every byte is
/// read and checked (rule S3), else only the headers are.
///
/// # Errors
/// A damaged or hostile layer, or, where that was asked for, a digest that is not what the image states.
pub fn locate(
    image: &Image,
    layers: &[PlainLayer],
    verify: bool,
    beside: File,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Vec<LocatedLayer>, u64), Error> {
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let read = if verify { read_all(image, options, progress)? } else { read_only_headers(layers, options)? };
    progress.settling();
    let mut beside = Blocks::new(BufWriter::new(beside), Lies::Beside);
    let settle = |(layer, (diff_id, record, mut locating)): (&PlainLayer, Read)| {
        let losses = locating.take_losses().map(|name| record.names.path(name)).into_list();
        let pieces = locating.settle(&layer.file, layer.start, &mut beside);
        let pieces = pieces.map_err(io("cannot copy what of a layer cannot be used in place"))?;
        Ok(LocatedLayer { diff_id, record, pieces, losses })
    };
    let located = layers.iter().zip(read).map(settle).collect::<Result<_, Error>>()?;
    let length = beside.finish().map_err(io("cannot copy what of a layer cannot be used in place"))?.1;
    Ok((located, length))
}

type Read = (Option<Digest>, Record, Locating);

fn read_all(image: &Image, options: &Options, progress: &dyn Progress) -> Result<Vec<Read>, Error> {
    let all: Vec<usize> = (0..image.layers.len()).collect();
    let read = read_layers(image, &all, options, progress, &|_, stream, read, tell| {
        let mut locating = Locating::default();
        let record = read_layer(stream, &mut locating, read, tell)?;
        Ok((record, locating))
    })?;
    Ok(read.into_iter().map(|layer| (Some(layer.facts.diff_id), layer.record, layer.kept)).collect())
}

fn read_only_headers(layers: &[PlainLayer], options: &Options) -> Result<Vec<Read>, Error> {
    let order: Vec<usize> = (0..layers.len()).collect();
    let jobs = parallel::jobs(options.jobs, 0).get();
    let reading = ReadOptions { limits: options.limits, cancel: options.cancel.clone(), ..ReadOptions::default() };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let read = parallel::each(&order, jobs, &stop, &|index| {
        let layer = &layers[index];
        let mut locating = Locating::default();
        let mut input = Skipping::new(&layer.file, layer.start, layer.length);
        let skip = &mut |input: &mut Skipping<'_>, bytes| input.skip(bytes);
        let record = read_headers(&mut input, &mut locating, &reading, &mut |_| {}, skip);
        let which = || WhichLayer { index, file: Some(layer.path.clone()) };
        match record {
            Ok(record) => Ok((None, record, locating)),
            Err(crate::core::layer::LayerError::Cancelled) => Err(Error::Cancelled),
            Err(error) => Err(Error::Layer { layer: which(), error }),
        }
    });
    parallel::all(read, || Error::Cancelled, |error| matches!(error, Error::Cancelled))
}
