//! Transfers blobs in parallel: each is read once, verified, and stored.

use std::io::Read;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};

use super::layers::{Task, Way};
use super::report::Outcome;
use super::{CopyError, CopyOptions};
use crate::blob::{BlobError, Compress, Compression, Compressor, LayerStream, Pace};
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::parallel;
use crate::parallel::jobs;
use crate::transport::store::{BlobKind, Presence, Store, StoreError, Stored, pour};
use crate::unpack::Progress;

/// A blob that is in the store.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Of a layer that was decompressed.
    pub(super) diff_id: Option<Digest>,
    /// How it is compressed now, where it was made anew.
    pub(super) compression: Option<Compression>,
    pub(super) outcome: Outcome,
}

/// Does all tasks.
pub(super) fn run(
    tasks: &[Task],
    store: &dyn Store,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Vec<Placed>, CopyError> {
    let sizes: Vec<u64> = tasks.iter().map(|task| task.blob.len()).collect();
    progress.begin(&sizes);
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let is_remote = |task: usize| tasks[task].blob.is_remote();
    let remote = order.iter().filter(|&&task| is_remote(task)).count();
    let jobs = if store.is_sequential() { 1 } else { jobs(options.jobs, remote).get().min(tasks.len()).max(1) };
    if jobs > 1 {
        // The largest first: the last one to be begun should be a short one. What has to come over a network waits
        // longest.
        order.sort_by_key(|&task| std::cmp::Reverse((is_remote(task), sizes[task])));
    }
    let compressing = tasks.iter().filter(|task| matches!(task.way, Way::Made(_))).count();
    let threads = crate::parallel::jobs(options.jobs, 0).get().div_ceil(compressing.clamp(1, jobs));
    let threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);

    let stop = AtomicBool::new(false);
    let placed = parallel::each(&order, jobs, &stop, &|index| {
        let watch = Watch { stop: &stop, cancel: &options.cancel, progress, index };
        let result = One { task: &tasks[index], store, options, threads, watch }.run();
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        progress.layer_done(index);
        result
    });
    parallel::all(placed, || CopyError::Cancelled, |error| matches!(error, CopyError::Cancelled))
}

/// One task at work.
struct One<'a> {
    task: &'a Task,
    store: &'a dyn Store,
    options: &'a CopyOptions,
    /// Threads that compress.
    threads: NonZero<usize>,
    watch: Watch<'a>,
}

impl One<'_> {
    fn run(&self) -> Result<Placed, CopyError> {
        let result = match self.task.way {
            Way::AsStored => self.copy_as_stored(),
            Way::LeftOut => self.leave_out(),
            Way::Uncompressed => self.copy_uncompressed(),
            Way::Made(compress) => self.make(compress),
        };
        result.map_err(|error| if self.watch.is_stopped() { CopyError::Cancelled } else { error })
    }

    fn copy_as_stored(&self) -> Result<Placed, CopyError> {
        let blob = &self.task.blob;
        // A blob without a digest is compressed anew.
        let Some(digest) = blob.digest().cloned() else { return self.make(Compress::GZIP) };
        let kind = if self.task.is_layer { BlobKind::Layer } else { BlobKind::Other };
        let stored = Stored { kind, digest, size: blob.stated_size() };
        if let Some(there) = self.find(&stored)? {
            return Ok(there);
        }
        let tell = |count| self.watch.look(count);
        let size = self.store.put_blob(&stored, blob, &tell).map_err(|error| self.explain(error))?;
        Ok(Placed { digest: stored.digest, size, diff_id: None, compression: None, outcome: Outcome::Copied })
    }

    fn leave_out(&self) -> Result<Placed, CopyError> {
        let blob = &self.task.blob;
        let Some(digest) = blob.digest().cloned() else { return self.copy_as_stored() };
        let size = blob.stated_size().unwrap_or(blob.len());
        Ok(Placed { digest, size, diff_id: None, compression: None, outcome: Outcome::LeftOut })
    }

    fn copy_uncompressed(&self) -> Result<Placed, CopyError> {
        let Some(digest) = self.task.diff_id.clone() else { return self.make(Compress::None) };
        let stored = Stored { kind: BlobKind::Layer, digest, size: None };
        let placed = |size, outcome| Placed {
            digest: stored.digest.clone(),
            size,
            diff_id: Some(stored.digest.clone()),
            compression: Some(Compression::None),
            outcome,
        };
        if let Some(there) = self.find(&stored)? {
            return Ok(placed(there.size, there.outcome));
        }
        let mut content = self.layer()?;
        let size = self.store.put(&stored, &mut content).map_err(|error| self.explain(error))?;
        let was_so = self.task.blob.digest().is_none_or(|source| *source == stored.digest);
        Ok(placed(size, if was_so { Outcome::Copied } else { Outcome::Rewritten }))
    }

    fn make(&self, compress: Compress) -> Result<Placed, CopyError> {
        let draft = self.store.draft()?;
        let path = draft.path().to_owned();
        let written = |error| CopyError::from(StoreError::Io { path: path.clone(), error });
        let mut content = self.layer()?;
        let mut out = Compressor::new(draft, compress, self.threads).map_err(written)?;
        pour(&mut content, &mut out, &path).map_err(|error| self.explain(error))?;
        let (draft, facts) = out.finish().map_err(written)?;
        let stored = Stored { kind: BlobKind::Layer, digest: facts.digest, size: Some(facts.size) };
        let placed = |outcome| Placed {
            digest: stored.digest.clone(),
            size: facts.size,
            diff_id: Some(facts.diff_id.clone()),
            compression: Some(facts.compression),
            outcome,
        };
        // The same layer may have been made before: the same bytes come out.
        if let Some(there) = self.find(&stored)? {
            return Ok(placed(there.outcome));
        }
        self.store.adopt(&stored, draft).map_err(|error| self.explain(error))?;
        Ok(placed(Outcome::Rewritten))
    }

    /// Whether the store has the blob.
    fn find(&self, stored: &Stored) -> Result<Option<Placed>, CopyError> {
        let placed =
            |size, outcome| Placed { digest: stored.digest.clone(), size, diff_id: None, compression: None, outcome };
        Ok(match self.store.find(stored)? {
            Presence::Missing => None,
            Presence::There(size) => Some(placed(size, Outcome::Present)),
            Presence::Mounted(size) => Some(placed(size, Outcome::Mounted)),
        })
    }

    /// The layer, uncompressed.
    fn layer(&self) -> Result<LayerContent<'_>, CopyError> {
        let pace = Pace::of(self.task.blob.len(), true);
        let stream = self.task.blob.open_layer(&self.options.limits, pace).map_err(|error| self.blob(error))?;
        Ok(LayerContent { stream: Some(stream), task: self.task, watch: self.watch })
    }

    fn blob(&self, error: BlobError) -> CopyError {
        match error {
            BlobError::Read { error, .. } => CopyError::Read { what: self.task.what.clone(), error },
            other => CopyError::Blob(other),
        }
    }

    /// An error of reading holds what was wrong with the blob.
    fn explain(&self, error: StoreError) -> CopyError {
        let StoreError::Content(error) = error else { return error.into() };
        match error.downcast::<BlobError>() {
            Ok(blob) => self.blob(blob),
            Err(error) => match error.downcast::<CopyError>() {
                Ok(own) => own,
                Err(error) => CopyError::Read { what: self.task.what.clone(), error },
            },
        }
    }
}

/// Cancellation and progress.
#[derive(Clone, Copy)]
struct Watch<'a> {
    stop: &'a AtomicBool,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    index: usize,
}

impl Watch<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    fn look(&self, stored: u64) -> std::io::Result<()> {
        if self.is_stopped() {
            return Err(std::io::Error::other("stopped"));
        }
        self.progress.bytes(self.index, stored);
        Ok(())
    }
}

/// A layer's uncompressed bytes, which only end if both digests are right (rule S3).
struct LayerContent<'a> {
    stream: Option<LayerStream>,
    task: &'a Task,
    watch: Watch<'a>,
}

impl Read for LayerContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        self.watch.look(stream.stored_bytes())?;
        let count = stream.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(stream) = self.stream.take()
        {
            let found = stream.finish().map_err(std::io::Error::other)?.diff_id;
            if let Some(stated) = self.task.diff_id.as_ref().filter(|&stated| *stated != found) {
                let (what, stated) = (self.task.what.clone(), stated.clone());
                return Err(std::io::Error::other(CopyError::DiffId { what, stated, found }));
            }
        }
        Ok(count)
    }
}
