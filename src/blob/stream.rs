//! A layer's bytes on their way: stored bytes hashed, decompressed, and hashed again, each once.
//!
//! With [`Pace::Ahead`] one thread decompresses and a second one hashes what came out, a few buffers ahead of whoever
//! parses and writes; the buffers go round and are never copied.

use std::fmt;
use std::io::{BufRead, Error, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::reader::NotArrived;
use super::source::Source;
use super::{Blob, BlobError, CHUNK, Compression};
use crate::core::digest::{Digest, Hasher};
use crate::core::limits::Limits;
use crate::parallel::{self, Thread};

/// Buffers between one thread and the next.
const AHEAD: usize = 3;

/// Whether decompression and hashing run on the caller's thread or ahead on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The caller's thread, when it asks.
    OnDemand,
    /// Threads of their own, ahead of the caller.
    Ahead,
}

impl Pace {
    /// Stored bytes up to which a layer is done before a thread has begun.
    const AHEAD_FROM: u64 = 256 << 10;

    /// What suits a layer of so many stored bytes, where threads of its own are allowed.
    pub(crate) fn of(stored: u64, may_be_ahead: bool) -> Self {
        if may_be_ahead && stored > Self::AHEAD_FROM { Self::Ahead } else { Self::OnDemand }
    }
}

/// The uncompressed bytes of a layer.
///
/// Read it as far as you like, then call [`LayerStream::finish`]. Errors of reading hold a [`BlobError`].
pub struct LayerStream {
    supply: Supply,
    stored: Arc<AtomicU64>,
    expanded: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was consumed.
    at: usize,
}

enum Supply {
    OnDemand {
        source: Box<Source>,
        hasher: Hasher,
    },
    Ahead {
        full: Receiver<Filled>,
        empty: Sender<Vec<u8>>,
        source: Thread<Option<Box<Source>>>,
        hasher: Thread<Option<Hasher>>,
    },
}

/// A buffer on its way; an empty one is the end.
type Filled = Result<Vec<u8>, BlobError>;

/// What a layer turned out to be, once all of it was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// Digest of the stored bytes, by the algorithm that the image states, else SHA-256.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// Digest of the uncompressed archive (image specification, config.md, "Layer DiffID"), by the algorithm that the
    /// image states, else SHA-256.
    pub diff_id: Digest,
    /// Uncompressed bytes.
    pub expanded: u64,
    /// How the layer is compressed.
    pub compression: Compression,
}

impl LayerStream {
    pub(super) fn open(blob: &Blob, limits: &Limits, pace: Pace) -> Result<Self, BlobError> {
        let stored = Arc::new(AtomicU64::new(0));
        let source = Box::new(Source::open(blob, limits, Arc::clone(&stored))?);
        let hasher = Hasher::new(blob.diff_id_algorithm);
        let supply = match pace {
            Pace::OnDemand => Supply::OnDemand { source, hasher },
            Pace::Ahead => run_ahead(source, hasher),
        };
        Ok(Self { supply, stored, expanded: 0, buffer: Vec::new(), at: 0 })
    }

    /// Whether decompression and hashing run on the caller's thread or ahead on their own.
    pub fn pace(&self) -> Pace {
        match self.supply {
            Supply::OnDemand { .. } => Pace::OnDemand,
            Supply::Ahead { .. } => Pace::Ahead,
        }
    }

    /// How many stored bytes were read so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Reads what is left, to the last byte, and checks all of it against what the image states (rules S3, T2).
    ///
    /// # Errors
    /// Damaged compression, another size or another digest than stated.
    pub fn finish(mut self) -> Result<LayerFacts, BlobError> {
        while self.next_buffer()? {}
        let (source, hasher) = match self.supply {
            Supply::OnDemand { source, hasher } => (Some(source), hasher),
            Supply::Ahead { full, empty, source, hasher } => {
                drop((full, empty));
                (source.join().flatten(), hasher.join().flatten().ok_or_else(BlobError::stopped)?)
            }
        };
        // The thread gives it back once it has handed over the last buffer.
        source.ok_or_else(BlobError::stopped)?.finish(hasher.finish(), self.expanded)
    }

    /// Gets the next buffer, which is hashed; `false` at the end.
    fn next_buffer(&mut self) -> Result<bool, BlobError> {
        self.at = 0;
        match &mut self.supply {
            Supply::OnDemand { source, hasher } => {
                source.fill(&mut self.buffer)?;
                hasher.update(&self.buffer);
            }
            Supply::Ahead { full, empty, .. } => {
                // The thread may have ended; the buffer is not needed then.
                let _ = empty.send(std::mem::take(&mut self.buffer));
                self.buffer = full.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            }
        }
        self.expanded += self.buffer.len() as u64;
        Ok(!self.buffer.is_empty())
    }
}

/// Starts the threads; each goes on until the end, an error, or until nobody takes its buffers any more. Where there
/// cannot be two, the caller's does it all.
fn run_ahead(source: Box<Source>, hasher: Hasher) -> Supply {
    let (decoded_sender, decoded) = bounded::<Filled>(AHEAD);
    let (full_sender, full) = bounded::<Filled>(AHEAD);
    let (empty, empty_receiver) = bounded::<Vec<u8>>(2 * AHEAD + 3);
    // Each gets what it works on from here, so that it is still here if there is no thread.
    let (give_hasher, take_hasher) = bounded::<Hasher>(1);
    let hash = move || {
        let mut hasher = take_hasher.recv().ok()?;
        for filled in decoded {
            if let Ok(buffer) = &filled {
                hasher.update(buffer);
            }
            if full_sender.send(filled).is_err() {
                break;
            }
        }
        Some(hasher)
    };
    let (give_source, take_source) = bounded::<Box<Source>>(1);
    let decode = move || {
        let mut source = take_source.recv().ok()?;
        loop {
            let mut buffer = empty_receiver.try_recv().unwrap_or_default();
            let filled = source.fill(&mut buffer);
            let last = !matches!(&filled, Ok(()) if !buffer.is_empty());
            if decoded_sender.send(filled.map(|()| buffer)).is_err() {
                return None;
            }
            if last {
                return Some(source);
            }
        }
    };
    let (Ok(hashing), Ok(decoding)) = (parallel::spawn(hash), parallel::spawn(decode)) else {
        return Supply::OnDemand { source, hasher };
    };
    // Both are there to take them.
    let _ = (give_hasher.send(hasher), give_source.send(source));
    Supply::Ahead { full, empty, source: decoding, hasher: hashing }
}

impl BufRead for LayerStream {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.next_buffer().map_err(std::io::Error::other)?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.buffer.len());
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl fmt::Debug for LayerStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LayerStream").field("expanded", &self.expanded).finish_non_exhaustive()
    }
}

impl BlobError {
    /// That stored bytes cannot be read, with the error as it came.
    pub(super) fn read(blob: String, error: Error) -> Self {
        Self::Read { blob, error: NotArrived::unwrap(error) }
    }

    pub(super) fn stopped() -> Self {
        Self::Read { blob: String::new(), error: ErrorKind::BrokenPipe.into() }
    }
}

/// The size of the buffers that go round.
pub(super) const BUFFER: usize = 2 * CHUNK;
