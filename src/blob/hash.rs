//! Hashing bytes as they pass.

use std::io::Read;

use sha2::Digest as _;

use super::{Algorithm, Digest};

/// One of the hash functions of the image specification, at work.
#[derive(Debug, Clone)]
pub(super) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::of_hash(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::of_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

/// A reader that hashes and counts what passes.
#[derive(Debug)]
pub(super) struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R, algorithm: Algorithm) -> Self {
        Self { inner, hasher: Hasher::new(algorithm), count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn finish(self) -> (R, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
