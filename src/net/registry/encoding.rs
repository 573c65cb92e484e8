//! Decodes bodies that a server compressed although nobody asked it to (Content-Encoding). The header is often wrong,
//! so the bytes decide.

use std::io::{BufRead, BufReader, Read, Result};

use crate::blob::{Compression, Decompressor};

/// A document of at most `limit` bytes, decoded if it is encoded. What cannot be decoded is left for whoever reads it.
pub(super) fn document(bytes: Vec<u8>, limit: u64) -> Vec<u8> {
    if Compression::detect(&bytes) == Compression::None {
        return bytes;
    }
    let mut decoded = Vec::new();
    let read = decoder(bytes.as_slice()).and_then(|decoder| decoder.take(limit).read_to_end(&mut decoded));
    if read.is_ok() { decoded } else { bytes }
}

/// What is in an encoded body.
pub(super) fn decoder<R: BufRead>(body: R) -> Result<Decompressor<R>> {
    Decompressor::new(body)
}

/// The same, of a body that is not buffered.
pub(super) fn decoded(body: impl Read + Send + Sync + 'static) -> Result<Box<dyn Read + Send + Sync>> {
    Ok(Box::new(decoder(BufReader::new(body))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_decoded_whatever_they_are_said_to_be() {
        let text = b"{}".to_vec();
        assert_eq!(document(text.clone(), 10), text);
        assert_eq!(document(zstd::encode_all(text.as_slice(), 1).unwrap(), 10), text);
        // What only begins like an encoded one, and what is too long.
        assert_eq!(document(vec![0x1f, 0x8b, 1], 10), [0x1f, 0x8b, 1]);
        assert_eq!(document(zstd::encode_all(&[7; 100][..], 1).unwrap(), 10), [7; 10]);
    }
}
