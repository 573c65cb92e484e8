//! Hashes bytes in one pass.

use sha2::Digest as _;

use super::{Algorithm, Digest};

/// One of the hash functions of the image specification, at work.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::of_hash(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::of_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}
