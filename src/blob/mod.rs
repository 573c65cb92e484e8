//! Bytes of an image as they are stored: where they lie, whether they are what their digest says, and what comes
//! out when they are decompressed.

mod digest;

pub use digest::{Algorithm, Digest, DigestError};

/// Stored bytes that can be read any number of times, from any thread, together with what the image says of them.
#[derive(Debug, Clone)]
pub struct Blob {}
