//! A reader that hashes what it reads.

use std::io::Read;

use crate::core::digest::{Algorithm, Digest, Hasher};

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
