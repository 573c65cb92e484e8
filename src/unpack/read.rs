//! Every layer of an image is read once, as a stream, several at a time: for callers that need a layer's record and
//! what a sink kept of it.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::blob::{BlobError, LayerFacts, LayerStream, Pace};
use crate::core::cancel::Cancel;
use crate::core::layer::{LayerError, ReadOptions};
use crate::core::limits::NameCount;
use crate::core::record::Record;
use crate::image::{Image, Layer};
use crate::parallel;
use crate::parallel::jobs;
use crate::unpack::queue::{Queue, StopOnDrop};
use crate::unpack::{Error, Options, Progress, WhichLayer};

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct Extracted<T> {
    pub(crate) record: Record,
    pub(crate) facts: LayerFacts,
    pub(crate) kept: T,
    pub(crate) seconds: f64,
}

/// How one layer is read.
pub(crate) type ReadOne<'a, T> = &'a (
        dyn Fn(usize, &mut Watched<'_>, &ReadOptions, &mut dyn FnMut(usize)) -> Result<(Record, T), LayerError> + Sync
    );

/// Which layer is read next, by its place in the list of layers to read.
pub(crate) type Choose<'a> = &'a (dyn Fn(&Queue<'_>) -> Option<usize> + Sync);

/// Reads some of an image's layers, and checks them against what the image states (rule S3). They come out in the order
/// of `which`.
pub(crate) fn read_layers<T: Send>(
    image: &Image,
    which: &[usize],
    options: &Options,
    progress: &dyn Progress,
    read_one: ReadOne<'_, T>,
) -> Result<Vec<Extracted<T>>, Error> {
    read_chosen(image, which, options, progress, &|queue| queue.first(), read_one)
}

/// The same, in an order that is chosen while they are read.
pub(crate) fn read_chosen<T: Send>(
    image: &Image,
    which: &[usize],
    options: &Options,
    progress: &dyn Progress,
    choose: Choose<'_>,
    read_one: ReadOne<'_, T>,
) -> Result<Vec<Extracted<T>>, Error> {
    let read = each_layer(image, which, options, progress, choose, &|pass| {
        let unless_done = StopOnDrop(pass.stop);
        let result = read(pass, read_one);
        if result.is_ok() {
            std::mem::forget(unless_done);
        }
        result
    });
    parallel::all(read, || Error::Cancelled, |error| matches!(error, Error::Cancelled))
}

/// One layer that is about to be read.
pub(crate) struct Pass<'a> {
    /// The layer's number, from 0 at the bottom.
    pub(crate) index: usize,
    pub(crate) layer: &'a Layer,
    pub(crate) options: &'a Options,
    /// The bar that shows it.
    bar: usize,
    parallel: bool,
    stop: &'a AtomicBool,
    name_count: &'a NameCount,
    progress: &'a dyn Progress,
}

/// Does something with each of some layers, several at a time; the queue that is chosen from has the largest first. A layer is missing from the results
/// if the work was stopped before it was begun.
pub(crate) fn each_layer<T: Send>(
    image: &Image,
    which: &[usize],
    options: &Options,
    progress: &dyn Progress,
    choose: Choose<'_>,
    work: &(dyn Fn(&Pass<'_>) -> T + Sync),
) -> Vec<Option<T>> {
    let sizes: Vec<u64> = which.iter().map(|&layer| image.layers[layer].blob.len()).collect();
    progress.begin(&sizes);
    let is_remote = |bar: usize| image.layers[which[bar]].blob.is_remote();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    let remote = order.iter().filter(|&&bar| is_remote(bar)).count();
    let jobs = jobs(options.jobs, remote).get();
    if jobs > 1 {
        // The largest first: the last one to be begun should be a short one. Before them those that must come from
        // elsewhere. Those of about the same size are read from the bottom up, as all are one after the other: that takes the least room,
        // since what a layer replaces can only be removed when all below it are read.
        let largest = sizes.iter().copied().max().unwrap_or_default();
        let halvings = |size: u64| largest.checked_div(size).map_or(u32::MAX, u64::ilog2);
        order.sort_by_key(|&bar| (!is_remote(bar), halvings(sizes[bar])));
    }
    let stop = AtomicBool::new(false);
    let name_count = &NameCount::default();
    let queue = Queue::new(order, &stop, &options.cancel);
    parallel::each_chosen(sizes.len(), jobs, &|| choose(&queue), &|bar| {
        let (index, layer) = (which[bar], &image.layers[which[bar]]);
        work(&Pass { index, layer, options, bar, parallel: jobs > 1, stop: &stop, name_count, progress })
    })
}

fn read<T>(pass: &Pass<'_>, read_one: ReadOne<'_, T>) -> Result<Extracted<T>, Error> {
    let started = Instant::now();
    let of_blob = |error| Error::Blob { layer: pass.which(), error };
    let mut watched = match pass.open() {
        // The first bytes are waited for here.
        Err(_) if pass.options.cancel.is_cancelled() => return Err(Error::Cancelled),
        watched => watched.map_err(of_blob)?,
    };
    let result = read_one(pass.index, &mut watched, &pass.reading(), &mut |count| pass.entries(count));
    let (record, kept) = result.map_err(|error| match error {
        _ if watched.is_stopped() => Error::Cancelled,
        LayerError::Read(error) => match error.downcast::<BlobError>() {
            Ok(error) => of_blob(error),
            Err(error) => Error::Layer { layer: pass.which(), error: LayerError::Read(error) },
        },
        error => Error::Layer { layer: pass.which(), error },
    })?;
    let facts = watched.stream.finish().map_err(of_blob)?;
    if let Some(stated) = &pass.layer.diff_id
        && *stated != facts.diff_id
    {
        return Err(Error::DiffId { layer: pass.which(), stated: stated.clone(), found: facts.diff_id });
    }
    pass.done();
    Ok(Extracted { record, facts, kept, seconds: started.elapsed().as_secs_f64() })
}

impl Pass<'_> {
    /// For messages.
    pub(crate) fn which(&self) -> WhichLayer {
        WhichLayer { index: self.index, file: self.layer.blob.path().map(Path::to_owned) }
    }

    /// The layer's bytes.
    pub(crate) fn open(&self) -> Result<Watched<'_>, BlobError> {
        let pace = Pace::of(self.layer.blob.len(), self.parallel);
        let stream = self.layer.blob.open_layer(&self.options.limits, pace)?;
        let (stop, cancel) = (self.stop, &self.options.cancel);
        Ok(Watched { stream, stop, cancel, progress: self.progress, bar: self.bar })
    }

    pub(crate) fn reading(&self) -> ReadOptions {
        ReadOptions {
            limits: self.options.limits,
            filter: self.options.filter.clone(),
            cancel: self.options.cancel.clone(),
            name_count: self.name_count.clone(),
        }
    }

    /// Tells how many entries were found.
    pub(crate) fn entries(&self, count: usize) {
        self.progress.entries(self.bar, count as u64);
    }

    /// Tells that the layer is read.
    pub(crate) fn done(&self) {
        self.progress.layer_done(self.bar);
    }
}

/// A layer's stream that ends early when the work is stopped.
pub(crate) struct Watched<'a> {
    pub(crate) stream: LayerStream,
    stop: &'a AtomicBool,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    bar: usize,
}

impl Watched<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.is_stopped() {
            return Err(std::io::Error::other("stopped"));
        }
        self.progress.bytes(self.bar, self.stream.stored_bytes());
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
