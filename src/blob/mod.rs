//! A blob is a part of an image as it is stored: a layer, a configuration, a manifest. This room reads blobs from
//! wherever they are, verifies size and digest, decompresses, and compresses.

mod blocks;
mod compress;
mod compression;
mod decompress;
mod hash;
mod reader;
mod source;
mod stream;
mod verified;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::core::limits::Limits;

use crate::core::digest::{Algorithm, Digest, Hasher};
pub use compress::{Compress, CompressError, Compressor};
pub use compression::Compression;
pub(crate) use decompress::{Decompressor, plainly};
pub use reader::{Arriving, BlobReader, Remote};
pub use stream::{LayerFacts, LayerStream, Pace};
pub use verified::VerifiedReader;

/// Bytes read at once from where a blob lies.
const CHUNK: usize = 128 << 10;

/// Stored bytes that can be read any number of times, from any thread, with the size and digest that the image states.
#[derive(Debug, Clone)]
pub struct Blob {
    place: Place,
    digest: Option<Digest>,
    size: Option<u64>,
    diff_id_algorithm: Algorithm,
    path: Option<Arc<Path>>,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Arc<[u8]>),
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
    /// Opened when it is read: an image may have more layers than a process may have files open.
    Named {
        path: Arc<Path>,
        length: u64,
    },
    Pieces {
        file: Arc<File>,
        pieces: Arc<[Piece]>,
        length: u64,
    },
    Remote(Arc<dyn Remote>),
}

/// A part of a file that is a part of a blob; what no piece is of is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it belongs in the blob.
    pub at: u64,
    /// Where it lies in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// What is wrong with a blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// It cannot be read.
    #[error("blob {blob}")]
    Read {
        /// Which blob.
        blob: String,
        /// The system error.
        #[source]
        error: std::io::Error,
    },
    /// Its compression is damaged.
    #[error("blob {blob}: damaged {} data", .compression.name())]
    Damaged {
        /// Which blob.
        blob: String,
        /// How it is compressed.
        compression: Compression,
        /// The error of the decoder.
        #[source]
        error: std::io::Error,
    },
    /// It has another size than the image states (rule S3).
    #[error("blob {blob}: the image states {stated} bytes, there are {found}")]
    Size {
        /// Which blob.
        blob: String,
        /// As the image states it.
        stated: u64,
        /// What there is.
        found: u64,
    },
    /// It has another digest than the image states (rule S3).
    #[error("blob {stated}: its bytes have the digest {found}: it is damaged or was altered")]
    Digest {
        /// As the image states it.
        stated: Digest,
        /// What it is.
        found: Digest,
    },
    /// It asks for more than it may (rule S4).
    #[error("blob {blob}: {what} exceeds the limit of {limit}")]
    Limit {
        /// Which blob.
        blob: String,
        /// The quantity that exceeds the limit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
}

impl Blob {
    /// Bytes in memory, with no stated size or digest.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::at(Place::Memory(bytes.into()))
    }

    /// A part of a file, with no stated size or digest. The file's position is neither used nor changed.
    pub fn from_file(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self::at(Place::File { file, offset, length })
    }

    /// A whole file of so many bytes, of which nothing is stated. It is opened when it is read, and must still be a
    /// regular file of this size then.
    pub fn from_path(path: &Path, length: u64) -> Self {
        Self::at(Place::Named { path: path.into(), length })
    }

    /// Parts of a file with zeros between them, with no stated size or digest: a sparse file in an archive. The pieces
    /// are in order and apart, and end before `length`.
    pub fn from_pieces(file: Arc<File>, pieces: Arc<[Piece]>, length: u64) -> Self {
        Self::at(Place::Pieces { file, pieces, length })
    }

    /// Remote bytes that arrive as a stream, with no stated size or digest.
    pub fn from_remote(remote: Arc<dyn Remote>) -> Self {
        Self::at(Place::Remote(remote))
    }

    fn at(place: Place) -> Self {
        Self { place, digest: None, size: None, diff_id_algorithm: Algorithm::Sha256, path: None }
    }

    /// The same bytes, with what the image says of them.
    #[must_use]
    pub fn stated(self, digest: Option<Digest>, size: Option<u64>) -> Self {
        Self { digest, size, ..self }
    }

    /// The same bytes, with the file that the user knows them by, for messages.
    #[must_use]
    pub fn known_as(self, path: &Path) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// The file that the user knows them by.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The same bytes, of whose uncompressed form the DiffID is taken by this algorithm. It is SHA-256 otherwise.
    #[must_use]
    pub fn diff_id_by(self, algorithm: Algorithm) -> Self {
        Self { diff_id_algorithm: algorithm, ..self }
    }

    /// The file that all its bytes lie in one behind the other, and where they begin there.
    ///
    /// # Errors
    /// A file that cannot be opened, or is another one by now.
    pub fn part_of_file(&self) -> std::io::Result<Option<(Arc<File>, u64)>> {
        match &self.place {
            Place::File { file, offset, .. } => Ok(Some((Arc::clone(file), *offset))),
            Place::Named { path, length } => Ok(Some((Arc::new(reader::open(path, *length)?.0), 0))),
            _ => Ok(None),
        }
    }

    /// How many bytes are stored.
    pub fn len(&self) -> u64 {
        match &self.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File { length, .. } | Place::Named { length, .. } | Place::Pieces { length, .. } => *length,
            Place::Remote(remote) => remote.len(),
        }
    }

    /// Whether the bytes are elsewhere, and reading them is waiting for them.
    pub fn is_remote(&self) -> bool {
        matches!(&self.place, Place::Remote(remote) if !remote.is_here())
    }

    /// Whether no bytes are stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size that the image states.
    pub fn stated_size(&self) -> Option<u64> {
        self.size
    }

    /// The digest that the image states.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The stored bytes from the start.
    pub fn reader(&self) -> BlobReader {
        BlobReader::new(&self.place)
    }

    /// All bytes of a small blob, with size and digest checked.
    ///
    /// # Errors
    /// More bytes than `limit`, or other bytes than stated.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>, BlobError> {
        self.check_size(self.len())?;
        if self.len() > limit {
            let what = "the size of a manifest or configuration";
            return Err(BlobError::Limit { blob: self.name(), what, limit, name: "metadata-size" });
        }
        let read_error = |error| BlobError::read(self.name(), error);
        let mut reader = self.reader();
        let mut bytes = Vec::new();
        // What comes from elsewhere may be more than was said.
        reader.by_ref().take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(read_error)?;
        self.check_size(bytes.len() as u64)?;
        if let Some(stated) = &self.digest {
            let mut hasher = Hasher::new(stated.algorithm());
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != *stated {
                return Err(BlobError::Digest { stated: stated.clone(), found });
            }
            reader.verified().map_err(read_error)?;
        }
        Ok(bytes)
    }

    /// How it is compressed, as its first bytes show.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn compression(&self) -> std::io::Result<Compression> {
        self.reader().peek(Compression::START).map(Compression::detect).map_err(reader::NotArrived::unwrap)
    }

    /// The stored bytes from the start, checked against what the image states as they pass.
    pub fn verified_reader(&self) -> VerifiedReader {
        VerifiedReader::new(self)
    }

    /// Reads all bytes of a blob, however large, and checks them against its digest.
    ///
    /// # Errors
    /// As [`Blob::read_all`], but for the limit.
    pub(crate) fn check(&self) -> Result<(), BlobError> {
        let read = |error: std::io::Error| match error.downcast::<BlobError>() {
            Ok(error) => error,
            Err(error) => BlobError::read(self.name(), error),
        };
        std::io::copy(&mut self.verified_reader(), &mut std::io::sink()).map(|_| ()).map_err(read)
    }

    /// Opens a layer: its bytes uncompressed, hashed as they pass.
    ///
    /// # Errors
    /// A blob that cannot be read, or whose size is not the stated one.
    pub fn open_layer(&self, limits: &Limits, pace: Pace) -> Result<LayerStream, BlobError> {
        self.check_size(self.len())?;
        if let Place::Pieces { pieces, length, .. } = &self.place
            && limits.is_bomb(*length, pieces.iter().map(|piece| piece.length).sum())
        {
            let what = "the ratio of bytes to those that are no holes";
            return Err(BlobError::Limit { blob: self.name(), what, limit: limits.ratio, name: "ratio" });
        }
        LayerStream::open(self, limits, pace)
    }

    /// Checks what is known without reading: the size, where the image states one.
    ///
    /// # Errors
    /// Another size than stated.
    pub fn check_stated_size(&self) -> Result<(), BlobError> {
        self.check_size(self.len())
    }

    /// How the bytes are compressed, by the first few of them; nothing where they would have to be fetched first.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn compression_at_hand(&self) -> Result<Option<Compression>, BlobError> {
        let read_error = |error| BlobError::read(self.name(), error);
        if let Place::Remote(remote) = &self.place {
            let missing = remote.missing().map(|why| std::io::Error::new(std::io::ErrorKind::NotFound, why));
            return missing.map_or(Ok(None), |error| Err(read_error(error)));
        }
        self.compression().map(Some).map_err(read_error)
    }

    fn check_size(&self, found: u64) -> Result<(), BlobError> {
        match self.size {
            Some(stated) if stated != found => Err(BlobError::Size { blob: self.name(), stated, found }),
            _ => Ok(()),
        }
    }

    /// For messages.
    fn name(&self) -> String {
        self.digest.as_ref().map_or_else(|| "without a stated digest".to_owned(), Digest::to_string)
    }
}
