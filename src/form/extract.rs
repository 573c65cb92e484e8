//! One extraction for both forms: every layer is read once, as a stream, several at a time.

use std::io::{BufRead, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::{Resource, getrlimit};

use crate::blob::{BlobError, LayerFacts, LayerStream, Pace};
use crate::error::{Error, WhichLayer};
use crate::image::{Image, Layer};
use crate::layer::{Discard, LayerError, ReadOptions, Record, read_layer};
use crate::options::{Cancel, Options, jobs};
use crate::report::{Losses, Progress};
use crate::stage::{Contents, ContentsWriter, Holder, Spill, Stage, Staged};

/// Layers with fewer stored bytes are decompressed by the thread that writes them.
const AHEAD_FROM: u64 = 256 << 10;
/// Directory handles that one stage keeps open where it may.
const MOST_OPEN: usize = 64;

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct Extracted<T> {
    pub(crate) record: Record,
    pub(crate) facts: LayerFacts,
    pub(crate) kept: T,
    pub(crate) seconds: f64,
}

/// Reads all layers into directories of their own.
pub(crate) fn extract(
    image: &Image,
    roots: Vec<OwnedFd>,
    spill: &Spill,
    holder: &Holder,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<(Staged, Losses)>>, Error> {
    let most_open = most_open(image.layers.len());
    let roots: Vec<Mutex<Option<OwnedFd>>> = roots.into_iter().map(|root| Mutex::new(Some(root))).collect();
    read_all(image, options, progress, &|layer, stream, read, tell| {
        let root = roots[layer].lock().ok().and_then(|mut root| root.take());
        let root = root.ok_or_else(|| std::io::Error::other("the layer was read before"))?;
        // Where reading has threads of its own, finishing files has one too.
        let ahead = stream.stream.pace() == Pace::Ahead;
        let mut stage = Stage::new(layer, root, spill.clone(), holder.clone(), most_open, ahead);
        let record = read_layer(stream, &mut stage, read, tell)?;
        let (staged, losses) = stage.into_staged();
        let losses = losses.map(|name| record.names.path(name));
        Ok((record, (staged, losses)))
    })
}

/// A layer's contents, where they are wanted, and what of its attributes could not be kept.
pub(crate) type Kept = (Option<Contents>, Losses);

/// Reads all layers, and keeps the contents of files in `directory`, of those layers where `is_wanted` says so.
pub(crate) fn read_contents(
    image: &Image,
    directory: &Path,
    is_wanted: &(dyn Fn(usize) -> bool + Sync),
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<Kept>>, Error> {
    read_all(image, options, progress, &|layer, stream, read, tell| {
        if !is_wanted(layer) {
            return Ok((read_layer(stream, &mut Discard::default(), read, tell)?, (None, Losses::default())));
        }
        let mut writer = ContentsWriter::new(directory)?;
        let record = read_layer(stream, &mut writer, read, tell)?;
        let (contents, losses) = writer.into_contents();
        let losses = losses.map(|name| record.names.path(name));
        Ok((record, (Some(contents), losses)))
    })
}

/// Reads all layers and keeps nothing but their records.
pub(crate) fn read_records(
    image: &Image,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<()>>, Error> {
    read_all(image, options, progress, &|_, stream, read, tell| {
        let mut discard = Discard::default();
        Ok((read_layer(stream, &mut discard, read, tell)?, ()))
    })
}

/// What became of a layer; nothing, if it was never begun.
type Outcome<T> = Mutex<Option<Result<Extracted<T>, Error>>>;

/// How one layer is read.
type ReadOne<'a, T> = &'a (
        dyn Fn(usize, &mut Watched<'_>, &ReadOptions, &mut dyn FnMut(usize)) -> Result<(Record, T), LayerError> + Sync
    );

fn read_all<T: Send>(
    image: &Image,
    options: &Options,
    progress: &dyn Progress,
    read_one: ReadOne<'_, T>,
) -> Result<Vec<Extracted<T>>, Error> {
    let sizes: Vec<u64> = image.layers.iter().map(|layer| layer.blob.len()).collect();
    progress.begin(&sizes);
    // The largest first: the last one to be begun should be a short one. Before them those that must come from elsewhere.
    let is_remote = |layer: usize| image.layers[layer].blob.is_remote();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&layer| std::cmp::Reverse((is_remote(layer), sizes[layer])));

    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let results: Vec<Outcome<T>> = sizes.iter().map(|_| Mutex::new(None)).collect();
    let remote = order.iter().filter(|&&layer| is_remote(layer)).count();
    let jobs = jobs(options.jobs, remote).get();
    let work = || {
        while let Some(&layer) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let result = read(jobs > 1, layer, &image.layers[layer], options, &stop, progress, read_one);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            if let Ok(mut slot) = results[layer].lock() {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(sizes.len()) {
            scope.spawn(work);
        }
        work();
    });
    collect(results.into_iter().map(|slot| slot.into_inner().ok().flatten()))
}

/// All layers, or the error of the lowest one that has one of its own.
fn collect<T>(results: impl Iterator<Item = Option<Result<T, Error>>>) -> Result<Vec<T>, Error> {
    let mut layers = Vec::new();
    let mut error = None;
    for result in results {
        match result {
            Some(Ok(layer)) => layers.push(layer),
            // Stopped because another one failed, or never begun.
            Some(Err(Error::Cancelled)) | None => error = error.or(Some(Error::Cancelled)),
            Some(Err(own)) => {
                error = match error {
                    None | Some(Error::Cancelled) => Some(own),
                    first => first,
                }
            }
        }
    }
    error.map_or(Ok(layers), Err)
}

/// Directory handles that each stage may keep open: the process's limit is for all of them, and for much else.
fn most_open(layers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX).checked_div(layers).unwrap_or(0).min(MOST_OPEN)
}

fn read<T>(
    parallel: bool,
    index: usize,
    layer: &Layer,
    options: &Options,
    stop: &AtomicBool,
    progress: &dyn Progress,
    read_one: ReadOne<'_, T>,
) -> Result<Extracted<T>, Error> {
    let started = Instant::now();
    let which = || WhichLayer { index, file: layer.blob.path().map(Path::to_owned) };
    let of_blob = |error| Error::Blob { layer: which(), error };
    // A small layer is done before a thread has begun.
    let pace = if parallel && layer.blob.len() > AHEAD_FROM { Pace::Ahead } else { Pace::OnDemand };
    let stream = match layer.blob.open_layer(&options.limits, pace) {
        // The first bytes are waited for here.
        Err(_) if options.cancel.is_cancelled() => return Err(Error::Cancelled),
        stream => stream.map_err(of_blob)?,
    };
    let mut watched = Watched { stream, stop, cancel: &options.cancel, progress, index };
    let read = ReadOptions { limits: options.limits, filter: options.filter.clone(), cancel: options.cancel.clone() };
    let result = read_one(index, &mut watched, &read, &mut |count| progress.entries(index, count as u64));
    let (record, kept) = result.map_err(|error| match error {
        _ if watched.is_stopped() => Error::Cancelled,
        LayerError::Read(error) => match error.downcast::<BlobError>() {
            Ok(error) => of_blob(error),
            Err(error) => Error::Layer { layer: which(), error: LayerError::Read(error) },
        },
        error => Error::Layer { layer: which(), error },
    })?;
    let facts = watched.stream.finish().map_err(of_blob)?;
    if let Some(stated) = &layer.diff_id
        && *stated != facts.diff_id
    {
        return Err(Error::DiffId { layer: which(), stated: stated.clone(), found: facts.diff_id });
    }
    progress.layer_done(index);
    Ok(Extracted { record, facts, kept, seconds: started.elapsed().as_secs_f64() })
}

/// A layer's stream that ends early when the work is stopped.
struct Watched<'a> {
    stream: LayerStream,
    stop: &'a AtomicBool,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    index: usize,
}

impl Watched<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.is_stopped() {
            return Err(std::io::Error::other("stopped"));
        }
        self.progress.bytes(self.index, self.stream.stored_bytes());
        self.stream.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
