//! Reads the stored bytes of a blob unchanged, and verifies size and digest on the way.

use std::io::{Error, ErrorKind, Read, Result};

use super::hash::Hashed;
use super::reader::NotArrived;
use super::{Blob, BlobError, BlobReader};
use crate::core::digest::{Algorithm, Digest};

/// Reads a blob's stored bytes, and fails rather than end if they are not what the image states (rule S3).
///
/// Where the size is stated, the last bytes only come once all of them are known to be right: whoever counts bytes and
/// does not read on to the end cannot miss it. The error holds a [`BlobError`].
#[derive(Debug)]
pub struct VerifiedReader {
    blob: Blob,
    reader: Option<Hashed<BlobReader>>,
}

impl VerifiedReader {
    pub(super) fn new(blob: &Blob) -> Self {
        let algorithm = blob.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        Self { blob: blob.clone(), reader: Some(Hashed::new(blob.reader(), algorithm)) }
    }

    /// Checks all that was read, when nothing follows.
    fn end(&mut self, mut reader: Hashed<BlobReader>) -> Result<()> {
        if std::io::copy(&mut reader.by_ref().take(1), &mut std::io::sink())? > 0 {
            return Err(Error::other(self.wrong_size(reader.count())));
        }
        let (reader, found, size) = reader.finish();
        if self.blob.size.is_some_and(|stated| stated != size) {
            return Err(Error::other(self.wrong_size(size)));
        }
        if let Some(stated) = &self.blob.digest {
            if *stated != found {
                return Err(Error::other(BlobError::Digest { stated: stated.clone(), found }));
            }
            reader.verified()?;
        }
        Ok(())
    }

    fn wrong_size(&self, found: u64) -> BlobError {
        BlobError::Size { blob: self.blob.name(), stated: self.blob.size.unwrap_or_default(), found }
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(mut reader) = self.reader.take() else { return Ok(0) };
        let count = match reader.read(buffer) {
            Ok(count) => count,
            Err(error) => {
                if error.kind() == ErrorKind::Interrupted {
                    self.reader = Some(reader);
                }
                return Err(NotArrived::unwrap(error));
            }
        };
        if count == 0 || self.blob.size == Some(reader.count()) {
            self.end(reader)?;
        } else if self.blob.size.is_some_and(|stated| stated < reader.count()) {
            return Err(Error::other(self.wrong_size(reader.count())));
        } else {
            self.reader = Some(reader);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn read(bytes: &[u8], stated: &[u8], size: Option<u64>, piece: usize) -> std::result::Result<Vec<u8>, String> {
        let blob = Blob::from_bytes(bytes).stated(Some(Digest::sha256_of(stated)), size);
        let mut reader = blob.verified_reader();
        let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match reader.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn s3_stored_bytes_are_checked_before_the_last_of_them_come() {
        for piece in [1, 3, 7, 100] {
            for size in [None, Some(7)] {
                assert_eq!(read(b"content", b"content", size, piece).unwrap(), b"content");
                assert!(read(b"content", b"other", size, piece).unwrap_err().contains("damaged or was altered"));
            }
            assert_eq!(read(b"", b"", Some(0), piece).unwrap(), b"");
            for stated in [0, 6, 8] {
                assert!(read(b"content", b"content", Some(stated), piece).unwrap_err().contains("bytes, there are"));
            }
        }
        let blob = Blob::from_bytes(&b"content"[..]).stated(Some(Digest::sha256_of(b"other")), Some(7));
        // A caller that reads exactly the stated size gets an error instead of the last bytes.
        blob.verified_reader().read_exact(&mut [0; 7]).unwrap_err();
    }
}
