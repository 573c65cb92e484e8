//! The stored side of a layer: reads the blob, hashes and decompresses it, and checks everything when it ends.

use std::io::{BufReader, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::decompress::{Decompressor, plainly};
use super::hash::Hashed;
use super::reader::NotArrived;
use super::stream::BUFFER;
use super::{Blob, BlobError, BlobReader, CHUNK, Compression, LayerFacts};
use crate::core::digest::{Algorithm, Digest};
use crate::core::limits::Limits;

/// Fills buffers with a layer's uncompressed bytes.
pub(super) struct Source {
    blob: Blob,
    compression: Compression,
    limits: Limits,
    bytes: Bytes,
    expanded: u64,
    /// Stored bytes read so far, for whoever wants to know.
    stored: Arc<AtomicU64>,
}

enum Bytes {
    /// Stored as they are: their digest is the DiffID, and is not worked out twice.
    Plain(BlobReader),
    /// Everything else.
    Hashed(Box<Decompressor<BufReader<Hashed<BlobReader>>>>),
}

impl Source {
    pub(super) fn open(blob: &Blob, limits: &Limits, stored: Arc<AtomicU64>) -> Result<Self, BlobError> {
        let read = |error| BlobError::read(blob.name(), error);
        let mut reader = blob.reader();
        let compression = Compression::detect(reader.peek(Compression::START).map_err(read)?);
        let algorithm = blob.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let bytes = if compression == Compression::None && algorithm == blob.diff_id_algorithm {
            Bytes::Plain(reader)
        } else {
            let buffered = BufReader::with_capacity(CHUNK, Hashed::new(reader, algorithm));
            Bytes::Hashed(Box::new(Decompressor::new(buffered).map_err(read)?))
        };
        Ok(Self { blob: blob.clone(), compression, limits: *limits, bytes, expanded: 0, stored })
    }

    /// Fills a buffer; it is empty at the end.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<(), BlobError> {
        // New ones come from the system as zeros, which need not be written.
        if buffer.len() < BUFFER {
            *buffer = vec![0; BUFFER];
        }
        let mut filled = 0;
        while filled < BUFFER {
            let read = match &mut self.bytes {
                Bytes::Plain(reader) => reader.read(&mut buffer[filled..]),
                Bytes::Hashed(reader) => reader.read(&mut buffer[filled..]),
            };
            match read {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.damaged(error)),
            }
        }
        buffer.truncate(filled);
        self.expanded += filled as u64;
        let stored = match &self.bytes {
            Bytes::Plain(_) => self.expanded,
            Bytes::Hashed(reader) => reader.stored(),
        };
        self.stored.store(stored, Ordering::Relaxed);
        self.check_limits(stored)
    }

    /// When all was read: checks the stored bytes against what the image states.
    pub(super) fn finish(self, diff_id: Digest, expanded: u64) -> Result<LayerFacts, BlobError> {
        let (digest, size, reader) = match self.bytes {
            Bytes::Plain(reader) => (diff_id.clone(), expanded, reader),
            Bytes::Hashed(reader) => {
                let stored = reader.into_inner().ok_or_else(BlobError::stopped)?;
                let (reader, digest, size) = stored.into_inner().finish();
                (digest, size, reader)
            }
        };
        self.blob.check_size(size)?;
        if let Some(stated) = &self.blob.digest {
            if *stated != digest {
                return Err(BlobError::Digest { stated: stated.clone(), found: digest });
            }
            reader.verified().map_err(|error| BlobError::read(self.blob.name(), error))?;
        }
        Ok(LayerFacts { digest, size, diff_id, expanded, compression: self.compression })
    }

    fn damaged(&self, error: std::io::Error) -> BlobError {
        let blob = self.blob.name();
        match self.compression {
            _ if error.get_ref().is_some_and(|inner| inner.is::<NotArrived>()) => BlobError::read(blob, error),
            Compression::None => BlobError::read(blob, error),
            compression => BlobError::Damaged { blob, compression, error: plainly(error) },
        }
    }

    fn check_limits(&self, stored: u64) -> Result<(), BlobError> {
        let limit = |what, limit, name| Err(BlobError::Limit { blob: self.blob.name(), what, limit, name });
        if self.expanded > self.limits.layer_size {
            return limit("the size of the uncompressed layer", self.limits.layer_size, "layer-size");
        }
        if self.limits.is_bomb(self.expanded, stored) {
            return limit("the ratio of uncompressed to stored bytes", self.limits.ratio, "ratio");
        }
        Ok(())
    }
}
