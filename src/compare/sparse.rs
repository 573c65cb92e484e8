//! Hashes a content so that it does not matter which of its zeros are stored, and holes of any size cost nothing.

use sha2::{Digest as _, Sha256};

/// Zeros are left out in blocks of this size.
const BLOCK: usize = 4096;

/// The SHA-256 of: of each block of 4096 bytes that are not all zeros its number (u64, little-endian) and its bytes, the
/// last one filled up with zeros; the size.
#[derive(Debug)]
pub(crate) struct SparseHasher {
    hash: Sha256,
    block: Box<[u8; BLOCK]>,
    number: u64,
}

impl Default for SparseHasher {
    fn default() -> Self {
        Self { hash: Sha256::new(), block: Box::new([0; BLOCK]), number: 0 }
    }
}

impl SparseHasher {
    /// The next bytes; what lies between them and those before is zeros.
    pub(crate) fn data(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, within) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
            if number != self.number {
                self.end_block();
                self.number = number;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - within));
            self.block[within..within + now.len()].copy_from_slice(now);
            offset += now.len() as u64;
            bytes = rest;
        }
    }

    /// All of a content of this size was seen.
    pub(crate) fn finish(mut self, size: u64) -> [u8; 32] {
        self.end_block();
        self.hash.chain_update(size.to_le_bytes()).finalize().into()
    }

    fn end_block(&mut self) {
        if self.block.iter().any(|&byte| byte != 0) {
            self.hash.update(self.number.to_le_bytes());
            self.hash.update(self.block.as_slice());
            self.block.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(size: u64, pieces: &[(u64, &[u8])]) -> [u8; 32] {
        let mut hasher = SparseHasher::default();
        pieces.iter().for_each(|(offset, bytes)| hasher.data(*offset, bytes));
        hasher.finish(size)
    }

    #[test]
    fn zeros_count_alike_whether_they_are_stored_or_not() {
        const FAR: u64 = 1 << 45;
        let zeros = [0; 3 * BLOCK];
        let one = hash(FAR, &[(5000, b"abc")]);
        assert_eq!(one, hash(FAR, &[(0, &zeros[..5000]), (5000, b"a"), (5001, b"bc"), (5003, &zeros)]));
        for other in [
            hash(FAR + 1, &[(5000, b"abc")]),
            hash(FAR, &[(5001, b"abc")]),
            hash(FAR, &[(5000 + BLOCK as u64, b"abc")]),
            hash(FAR, &[(5000, b"abd")]),
            hash(FAR, &[(5000, b"abc"), (FAR - 1, b"x")]),
            hash(FAR, &[]),
        ] {
            assert_ne!(one, other);
        }
    }
}
