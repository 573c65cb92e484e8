//! A layer's bytes on their way: stored bytes hashed, decompressed, and hashed again, each once.

use std::fmt;
use std::io::{BufReader, ErrorKind, Read};

use super::compression::{Decompressor, plainly};
use super::hash::Hashed;
use super::{Algorithm, Blob, BlobError, BlobReader, CHUNK, Compression, Digest};
use crate::options::Limits;

/// The uncompressed bytes of a layer.
///
/// Read it as far as you like, then call [`LayerStream::finish`]. Errors of [`Read::read`] hold a [`BlobError`].
pub struct LayerStream {
    blob: Blob,
    compression: Compression,
    limits: Limits,
    stream: Hashed<Decompressor<BufReader<Hashed<BlobReader>>>>,
}

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
    pub(super) fn open(blob: &Blob, limits: &Limits) -> Result<Self, BlobError> {
        let algorithm = blob.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let stored = BufReader::with_capacity(CHUNK, Hashed::new(blob.reader(), algorithm));
        let (decompressor, compression) =
            Decompressor::new(stored).map_err(|error| BlobError::Read { blob: blob.name(), error })?;
        let stream = Hashed::new(decompressor, blob.diff_id_algorithm);
        Ok(Self { blob: blob.clone(), compression, limits: *limits, stream })
    }

    /// How many stored bytes were read so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stream.inner().get_ref().get_ref().count()
    }

    /// Reads what is left, to the last byte, and checks all of it against what the image states (rules S3, T2).
    ///
    /// # Errors
    /// Damaged compression, another size or another digest than stated.
    pub fn finish(mut self) -> Result<LayerFacts, BlobError> {
        let mut buffer = vec![0; CHUNK];
        while self.advance(&mut buffer)? > 0 {}
        let (decompressor, diff_id, expanded) = self.stream.finish();
        let mut stored = decompressor.into_inner();
        // A decoder that stops before its input does leaves bytes that would go unchecked.
        let left = stored.read(&mut buffer).map_err(|error| BlobError::Read { blob: self.blob.name(), error })?;
        if left > 0 {
            let error = std::io::Error::new(ErrorKind::InvalidData, "bytes follow its end");
            return Err(BlobError::Damaged { blob: self.blob.name(), compression: self.compression, error });
        }
        let (_, digest, size) = stored.into_inner().finish();
        self.blob.check_size(size)?;
        if let Some(stated) = &self.blob.digest
            && *stated != digest
        {
            return Err(BlobError::Digest { stated: stated.clone(), found: digest });
        }
        Ok(LayerFacts { digest, size, diff_id, expanded, compression: self.compression })
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize, BlobError> {
        let count = loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.damaged(error)),
                Ok(count) => break count,
            }
        };
        self.check_limits()?;
        Ok(count)
    }

    fn damaged(&self, error: std::io::Error) -> BlobError {
        let blob = self.blob.name();
        match self.compression {
            Compression::None => BlobError::Read { blob, error },
            compression => BlobError::Damaged { blob, compression, error: plainly(error) },
        }
    }

    fn check_limits(&self) -> Result<(), BlobError> {
        let expanded = self.stream.count();
        let limit = |what, limit, name| Err(BlobError::Limit { blob: self.blob.name(), what, limit, name });
        if expanded > self.limits.layer_size {
            return limit("the size of the uncompressed layer", self.limits.layer_size, "layer-size");
        }
        if self.limits.is_bomb(expanded, self.stored_bytes()) {
            return limit("the ratio of uncompressed to stored bytes", self.limits.ratio, "ratio");
        }
        Ok(())
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.advance(buffer).map_err(std::io::Error::other)
    }
}

impl fmt::Debug for LayerStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LayerStream").field("blob", &self.blob).finish_non_exhaustive()
    }
}
