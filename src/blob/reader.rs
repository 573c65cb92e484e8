//! Reads a blob from its start, whether it is in memory, in a file or still at a registry.

use std::fmt;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::sync::Arc;

use super::Place;
use crate::fs::open_regular;

/// Stored bytes that are elsewhere and come as a stream: a registry's.
pub trait Remote: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether they are on this machine after all, and come as fast as from any file.
    fn is_here(&self) -> bool {
        false
    }

    /// Why they are not there, where that is known without asking for them.
    fn missing(&self) -> Option<&str> {
        None
    }

    /// Asks for them, from the first one on.
    ///
    /// # Errors
    /// They cannot be had; the message says from where, why, and what to do.
    fn open(&self) -> Result<Box<dyn Arriving>>;

    /// Asks for them from `offset` on. Where that cannot be asked for, those before it come, too, and are passed over.
    ///
    /// # Errors
    /// As for [`open`](Remote::open).
    fn open_from(&self, offset: u64) -> Result<Box<dyn Arriving>> {
        let mut stream = self.open()?;
        std::io::copy(&mut (&mut stream).take(offset), &mut std::io::sink())?;
        Ok(stream)
    }
}

/// Bytes on their way from elsewhere.
pub trait Arriving: Read + Send {
    /// Told when all bytes were read and are what their digest says: now they may be kept. Without it they must not be.
    ///
    /// # Errors
    /// They were to be kept, and could not be.
    fn verified(self: Box<Self>) -> Result<()>;
}

/// An error of a place that is elsewhere. It passes through decoders, and is told from theirs by this.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NotArrived(pub(super) Error);

impl NotArrived {
    fn wrap(error: Error) -> Error {
        Error::new(error.kind(), Self(error))
    }

    /// The error as it came, where no decoder stands between that could be to blame.
    pub(super) fn unwrap(error: Error) -> Error {
        error.downcast().map_or_else(|error| error, |Self(error)| error)
    }
}

/// Reads a blob from its start, whatever others read of it.
pub struct BlobReader {
    bytes: Bytes,
    at: u64,
    /// Looked at ahead, and not handed out yet.
    peeked: Vec<u8>,
}

enum Bytes {
    Local(Place),
    /// Asked for when the first byte is.
    Remote(Arc<dyn Remote>),
    Arriving(Box<dyn Arriving>),
}

impl BlobReader {
    pub(super) fn new(place: &Place) -> Self {
        let bytes = match place {
            Place::Remote(remote) => Bytes::Remote(Arc::clone(remote)),
            local => Bytes::Local(local.clone()),
        };
        Self { bytes, at: 0, peeked: Vec::new() }
    }

    /// The next bytes, as many as that or all there are, which will still be read.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8]> {
        let mut bytes = std::mem::take(&mut self.peeked);
        let missing = count.saturating_sub(bytes.len()) as u64;
        self.by_ref().take(missing).read_to_end(&mut bytes)?;
        self.peeked = bytes;
        Ok(&self.peeked)
    }

    /// Says that all bytes were read and are what their digest says, so that whoever fetched them may keep them.
    ///
    /// # Errors
    /// They were to be kept, and could not be.
    pub fn verified(self) -> Result<()> {
        match self.bytes {
            Bytes::Arriving(stream) => stream.verified(),
            Bytes::Local(_) | Bytes::Remote(_) => Ok(()),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.peeked.is_empty() {
            let count = self.peeked.as_slice().read(buffer)?;
            self.peeked.drain(..count);
            return Ok(count);
        }
        if let Bytes::Remote(remote) = &self.bytes {
            self.bytes = Bytes::Arriving(remote.open().map_err(NotArrived::wrap)?);
        }
        if let Bytes::Local(Place::Named { path, length }) = &self.bytes {
            let (file, length) = open(path, *length)?;
            self.bytes = Bytes::Local(Place::File { file: Arc::new(file), offset: 0, length });
        }
        let count = match &mut self.bytes {
            Bytes::Arriving(stream) => stream.read(buffer).map_err(NotArrived::wrap)?,
            Bytes::Local(Place::Memory(bytes)) => (&bytes[self.at as usize..]).read(buffer)?,
            Bytes::Local(Place::File { file, offset, length }) => {
                read_at(file, buffer, *offset + self.at, *length - self.at)?
            }
            Bytes::Local(Place::Pieces { file, pieces, length }) => {
                let after = pieces.partition_point(|piece| piece.at + piece.length <= self.at);
                match pieces.get(after) {
                    Some(piece) if piece.at <= self.at => {
                        let within = self.at - piece.at;
                        read_at(file, buffer, piece.offset + within, piece.length - within)?
                    }
                    next => {
                        let hole = next.map_or(*length, |piece| piece.at) - self.at;
                        let count = usize::try_from(hole).unwrap_or(usize::MAX).min(buffer.len());
                        buffer[..count].fill(0);
                        count
                    }
                }
            }
            Bytes::Local(Place::Remote(_) | Place::Named { .. }) | Bytes::Remote(_) => 0,
        };
        self.at += count as u64;
        Ok(count)
    }
}

/// Opens a file that was looked at before.
pub(super) fn open(path: &Path, length: u64) -> Result<(File, u64)> {
    let of_path = |error: Error| Error::new(error.kind(), format!("{path:?}: {error}"));
    match open_regular(path).map_err(of_path)? {
        Some((file, found)) if found == length => Ok((file, found)),
        _ => Err(Error::other(format!("{path:?} was replaced by another file meanwhile"))),
    }
}

/// Reads of a part of a file that has so many bytes left.
fn read_at(file: &File, buffer: &mut [u8], offset: u64, left: u64) -> Result<usize> {
    let left = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    match crate::fs::read_at(file, &mut buffer[..left], offset)? {
        0 if left > 0 => Err(Error::from(ErrorKind::UnexpectedEof)),
        count => Ok(count),
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlobReader").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::{Blob, BlobError, Digest, Pace};
    use super::*;
    use crate::core::limits::Limits;

    /// Bytes that count how often they were asked for, and how often called right.
    #[derive(Debug, Default)]
    struct Elsewhere {
        bytes: Vec<u8>,
        opened: AtomicUsize,
        verified: Arc<AtomicUsize>,
    }

    struct Stream(Cursor<Vec<u8>>, Arc<AtomicUsize>);

    impl Remote for Elsewhere {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn open(&self) -> Result<Box<dyn Arriving>> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Stream(Cursor::new(self.bytes.clone()), Arc::clone(&self.verified))))
        }
    }

    impl Read for Stream {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Arriving for Stream {
        fn verified(self: Box<Self>) -> Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    fn read_layer(blob: &Blob, pace: Pace) -> std::result::Result<Vec<u8>, BlobError> {
        let mut stream = blob.open_layer(&Limits::default(), pace)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(|error| error.downcast::<BlobError>().unwrap())?;
        stream.finish().map(|_| bytes)
    }

    #[test]
    fn s3_what_comes_from_elsewhere_comes_once_and_is_kept_only_if_it_is_right() {
        let stored = zstd::encode_all(&b"content"[..], 1).unwrap();
        for (bytes, right) in [(stored.clone(), true), (b"content".to_vec(), true), (stored, false)] {
            let digest = Digest::sha256_of(if right { &bytes } else { b"other" });
            for pace in [Pace::OnDemand, Pace::Ahead] {
                let elsewhere = Arc::new(Elsewhere { bytes: bytes.clone(), ..Elsewhere::default() });
                let blob = Blob::from_remote(Arc::clone(&elsewhere) as Arc<dyn Remote>);
                let blob = blob.stated(Some(digest.clone()), Some(bytes.len() as u64));
                let read = read_layer(&blob, pace);
                assert_eq!(read.is_ok(), right);
                assert_eq!(read.ok(), right.then(|| b"content".to_vec()));
                assert_eq!(elsewhere.opened.load(Ordering::Relaxed), 1);
                assert_eq!(elsewhere.verified.load(Ordering::Relaxed), usize::from(right));
                assert_eq!(blob.read_all(1 << 20).is_ok(), right);
                assert_eq!(elsewhere.verified.load(Ordering::Relaxed), 2 * usize::from(right));
            }
        }
    }

    #[test]
    fn whatever_reads_it_the_error_of_a_place_elsewhere_is_a_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("the disk is full")]
        struct Full;
        #[derive(Debug)]
        struct Failing(&'static [u8]);
        impl Remote for Failing {
            fn len(&self) -> u64 {
                100
            }
            fn open(&self) -> Result<Box<dyn Arriving>> {
                Ok(Box::new(Self(self.0)))
            }
        }
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
                if self.0.is_empty() { Err(Error::other(Full)) } else { self.0.read(buffer) }
            }
        }
        impl Arriving for Failing {
            fn verified(self: Box<Self>) -> Result<()> {
                Ok(())
            }
        }
        let is_full = |error: &Error| error.get_ref().is_some_and(|inner| inner.is::<Full>());
        // It fails at once, or within what a decoder reads.
        for begin in [&b""[..], b"\x1f\x8b\x08\0\0\0\0\0\0\x03"] {
            let blob = Blob::from_remote(Arc::new(Failing(begin)));
            let read = |error| matches!(error, BlobError::Read { error, .. } if is_full(&error));
            let layer = blob.open_layer(&Limits::default(), Pace::OnDemand);
            assert!(read(layer.and_then(super::super::LayerStream::finish).unwrap_err()));
            assert!(read(blob.read_all(1000).unwrap_err()));
            assert!(read(blob.check().unwrap_err()));
            assert!(blob.compression().map_or_else(|error| is_full(&error), |_| true));
        }
    }
}
