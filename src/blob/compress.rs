//! Compresses a layer in parallel, to the same bytes on every machine and with any number of processors: a blob is
//! known by the digest of its bytes, so a copy that is repeated must not produce another blob.
//!
//! The content is cut into blocks of a fixed size, which are compressed apart (see [`blocks`](super::blocks)) and
//! written in their order. Where a block ends never depends on how many threads there are, nor on how the bytes were
//! handed over.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Error, ErrorKind, Result, Write};
use std::num::NonZero;
use std::str::FromStr;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::blocks::{Block, Compressed, GZIP_WINDOW, block_size, compress_block, gzip_end, gzip_start};
use super::{Compression, LayerFacts};
use crate::core::digest::{Algorithm, Hasher};
use crate::parallel::{self, Thread};

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// Not at all.
    None,
    /// RFC 1952, one member, without a name and a time.
    Gzip {
        /// 1, fastest, to 9, smallest.
        level: u32,
    },
    /// RFC 8878, one frame a block.
    Zstd {
        /// 1, fastest, to 22, smallest.
        level: i32,
    },
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a compression to write: expected none, gzip, gzip:LEVEL (1 to 9), zstd or zstd:LEVEL (1 to 22)")]
pub struct CompressError(String);

impl Compress {
    /// Gzip as every reader of images takes it, at the level that other tools use.
    pub const GZIP: Self = Self::Gzip { level: 6 };
    /// Zstandard at the level that its own program uses.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// What comes out.
    pub fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip { .. } => Compression::Gzip,
            Self::Zstd { .. } => Compression::Zstd,
        }
    }
}

impl FromStr for Compress {
    type Err = CompressError;

    fn from_str(text: &str) -> std::result::Result<Self, CompressError> {
        let error = || CompressError(text.to_owned());
        let (kind, level) = match text.split_once(':') {
            Some((kind, level)) => (kind, Some(level.parse::<u32>().map_err(|_| error())?)),
            None => (text, None),
        };
        match (kind, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", None) => Ok(Self::GZIP),
            ("zstd", None) => Ok(Self::ZSTD),
            ("gzip", Some(level @ 1..=9)) => Ok(Self::Gzip { level }),
            ("zstd", Some(level @ 1..=22)) => Ok(Self::Zstd { level: level.cast_signed() }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Compress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(formatter, "none"),
            Self::Gzip { level } => write!(formatter, "gzip:{level}"),
            Self::Zstd { level } => write!(formatter, "zstd:{level}"),
        }
    }
}

/// Compresses what is written to it, and says what became of it: both digests, both sizes.
///
/// Only [`Compressor::finish`] writes the end; what is dropped before is half of a layer.
pub struct Compressor<W: Write> {
    out: Stored<W>,
    compress: Compress,
    /// Of the content.
    content: Hasher,
    expanded: u64,
    /// Content that waits for its block to be full.
    filling: Vec<u8>,
    /// The end of the block before, which gzip's next one refers to.
    before: Vec<u8>,
    checksum: flate2::Crc,
    pool: Pool,
}

/// Where the stored bytes go, hashed and counted.
struct Stored<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Stored<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

impl<W: Write> Compressor<W> {
    /// Begins a layer. It is compressed by `jobs` threads.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(inner: W, compress: Compress, jobs: NonZero<usize>) -> Result<Self> {
        let mut out = Stored { inner, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        if matches!(compress, Compress::Gzip { .. }) {
            out.write(&gzip_start())?;
        }
        Ok(Self {
            out,
            compress,
            content: Hasher::new(Algorithm::Sha256),
            expanded: 0,
            filling: Vec::new(),
            before: Vec::new(),
            checksum: flate2::Crc::new(),
            pool: Pool::new(compress, jobs),
        })
    }

    /// Writes the end, and says what was written.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn finish(mut self) -> Result<(W, LayerFacts)> {
        if self.compress != Compress::None {
            self.hand_over(true)?;
            while let Some(done) = self.pool.take() {
                self.put(&done?)?;
            }
            if matches!(self.compress, Compress::Gzip { .. }) {
                self.out.write(&gzip_end(&self.checksum))?;
            }
        }
        self.out.inner.flush()?;
        let facts = LayerFacts {
            digest: self.out.hasher.finish(),
            size: self.out.size,
            diff_id: self.content.finish(),
            expanded: self.expanded,
            compression: self.compress.compression(),
        };
        Ok((self.out.inner, facts))
    }

    /// Hands the block that was filled to the threads, and writes what they are done with.
    fn hand_over(&mut self, last: bool) -> Result<()> {
        let content = std::mem::take(&mut self.filling);
        let before = std::mem::take(&mut self.before);
        if matches!(self.compress, Compress::Gzip { .. }) {
            self.before = content[content.len().saturating_sub(GZIP_WINDOW)..].to_vec();
        }
        self.pool.give(Block { content, before, last });
        while self.pool.is_full() {
            let Some(done) = self.pool.take() else { break };
            self.put(&done?)?;
        }
        Ok(())
    }

    fn put(&mut self, block: &Compressed) -> Result<()> {
        self.checksum.combine(&block.checksum);
        self.out.write(&block.bytes)
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        if self.compress == Compress::None {
            self.out.write(buffer)?;
            self.content.update(buffer);
            self.expanded += buffer.len() as u64;
            return Ok(buffer.len());
        }
        let size = block_size(self.compress);
        // A full block goes only when more comes, so that the last one is known to be the last.
        if self.filling.len() == size && !buffer.is_empty() {
            self.hand_over(false)?;
        }
        let count = buffer.len().min(size - self.filling.len());
        let taken = &buffer[..count];
        self.filling.extend_from_slice(taken);
        self.content.update(taken);
        self.expanded += count as u64;
        Ok(count)
    }

    /// Nothing: a block ends where it has to, not where the writer pauses.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressor").field("compress", &self.compress).finish_non_exhaustive()
    }
}

/// Threads that compress blocks. They start when there is work for them, so that a small layer starts one.
struct Pool {
    compress: Compress,
    jobs: usize,
    blocks: Sender<Work>,
    waiting: Receiver<Work>,
    threads: Vec<Thread<()>>,
    /// What was given and not taken yet, in order.
    order: VecDeque<Receiver<Result<Compressed>>>,
}

type Work = (Block, Sender<Result<Compressed>>);

impl Pool {
    fn new(compress: Compress, jobs: NonZero<usize>) -> Self {
        let (blocks, waiting) = unbounded();
        Self { compress, jobs: jobs.get(), blocks, waiting, threads: Vec::new(), order: VecDeque::new() }
    }

    /// Whether every thread has work and as much again waits: more would only take memory.
    fn is_full(&self) -> bool {
        self.order.len() > 2 * self.jobs
    }

    fn give(&mut self, block: Block) {
        let (done, receiver) = bounded(1);
        self.order.push_back(receiver);
        // The receiver is here: this cannot fail.
        let _ = self.blocks.send((block, done));
        if self.threads.len() < self.jobs.min(self.order.len()) {
            let (waiting, compress) = (self.waiting.clone(), self.compress);
            let thread = parallel::spawn(move || {
                for (block, done) in waiting {
                    // The receiver may have stopped already.
                    let _ = done.send(compress_block(compress, &block));
                }
            });
            match thread {
                Ok(thread) => self.threads.push(thread),
                // There are no more threads to be had, and where there is none this one does it.
                Err(_) => self.jobs = self.threads.len(),
            }
        }
        if self.threads.is_empty()
            && let Ok((block, done)) = self.waiting.try_recv()
        {
            let _ = done.send(compress_block(self.compress, &block));
        }
    }

    /// The next block, in order, once it is done; `None` when all were taken.
    fn take(&mut self) -> Option<Result<Compressed>> {
        let next = self.order.pop_front()?;
        Some(next.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::BrokenPipe, "a compressing thread has ended"))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::{Blob, Pace};
    use super::*;
    use crate::core::limits::Limits;

    /// Bytes that compress somewhat, the same on every run.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            match word() % 4 {
                0 => bytes.extend_from_slice(&word().to_le_bytes()),
                1 => bytes.extend_from_slice(b"the same again "),
                _ => bytes.extend(std::iter::repeat_n(b'a' + (word() % 26) as u8, (word() % 9) as usize)),
            }
        }
        bytes.truncate(length);
        bytes
    }

    fn compress(content: &[u8], how: Compress, jobs: usize, piece: usize) -> (Vec<u8>, LayerFacts) {
        let mut compressor = Compressor::new(Vec::new(), how, NonZero::new(jobs).unwrap()).unwrap();
        for piece in content.chunks(piece) {
            compressor.write_all(piece).unwrap();
        }
        compressor.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_depends_on_nothing_but_content_and_level() {
        for how in [Compress::None, Compress::GZIP, Compress::Gzip { level: 1 }, Compress::ZSTD] {
            let block = if how == Compress::None { 1 << 16 } else { block_size(how) };
            for length in [0, 1, 1000, block - 1, block, block + 1, 3 * block + 12345] {
                let content = content(length);
                let (stored, facts) = compress(&content, how, 1, 1 << 20);
                for (jobs, piece) in [(1, 4099), (2, 1 << 16), (5, 10 << 20)] {
                    let (again, _) = compress(&content, how, jobs, piece);
                    assert!(stored == again, "{how}, {length} bytes, {jobs} jobs");
                }
                let blob = Blob::from_bytes(stored).stated(Some(facts.digest.clone()), Some(facts.size));
                let mut stream = blob.open_layer(&Limits::default(), Pace::OnDemand).unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).unwrap();
                assert!(back == content, "{how}, {length} bytes");
                assert_eq!(stream.finish().unwrap(), facts);
            }
        }
    }

    /// Machine code, of which some blocks once came out otherwise on a thread that had compressed others before.
    #[test]
    fn what_a_thread_compressed_before_does_not_show() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = &program[..program.len().min(40 << 20)];
        for how in [Compress::Gzip { level: 6 }, Compress::Zstd { level: 1 }] {
            let (one, _) = compress(program, how, 1, 1 << 20);
            let (many, _) = compress(program, how, 5, 1 << 20);
            assert!(one == many, "{how}");
        }
    }

    #[test]
    fn a_writer_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> Result<()> {
                Ok(())
            }
        }
        let mut compressor = Compressor::new(Full, Compress::ZSTD, NonZero::<usize>::MIN).unwrap();
        let error = compressor.write_all(&content(40 << 20)).and_then(|()| compressor.finish().map(|_| ()));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn compressions_are_spelled_as_on_the_command_line() {
        for (text, expected) in [
            ("none", Compress::None),
            ("gzip", Compress::Gzip { level: 6 }),
            ("gzip:9", Compress::Gzip { level: 9 }),
            ("zstd", Compress::Zstd { level: 3 }),
            ("zstd:22", Compress::Zstd { level: 22 }),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string().parse().map_err(|_| text).or(text.parse()), Ok(expected));
        }
        for bad in ["", "xz", "zstd:", "zstd:0", "zstd:23", "gzip:10", "none:1", "gzip:-1"] {
            assert!(bad.parse::<Compress>().unwrap_err().to_string().contains("expected none, gzip"));
        }
    }
}
