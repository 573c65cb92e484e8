//! What fs-verity calls the digest of a file: the root of a tree of SHA-256 over blocks of 4096 bytes, hashed together with the file's size
//! (Documentation/filesystems/fsverity.rst, "File digest computation"). Parts of a file can be hashed on their own, and so by several threads;
//! and where a file system measures files itself, it gives the same.

use super::digest::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

/// Bytes of a block, of contents as of hashes.
const BLOCK: usize = 4096;
const HASH: usize = 32;
/// The bytes whose hashes fill one block.
pub(crate) const SPAN: usize = BLOCK / HASH * BLOCK;

type Hash = [u8; HASH];

/// The hash of up to [`SPAN`] bytes, which are the whole file or begin at a multiple of it and end there or with the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    hash: Hash,
    /// Bytes.
    length: u64,
}

impl Span {
    /// Hashes a part of a file. `is_all`: it is the whole file.
    pub(crate) fn of(bytes: &[u8], is_all: bool) -> Self {
        debug_assert!(bytes.len() <= SPAN);
        let length = bytes.len() as u64;
        if bytes.is_empty() {
            return Self { hash: [0; HASH], length };
        }
        if is_all && bytes.len() <= BLOCK {
            return Self { hash: block(bytes), length };
        }
        let hashes: Vec<Hash> = bytes.chunks(BLOCK).map(block).collect();
        Self { hash: block(hashes.as_flattened()), length }
    }
}

/// The digest of a file of these spans, in order.
pub(crate) fn digest(spans: &[Span]) -> Digest {
    let size: u64 = spans.iter().map(|span| span.length).sum();
    let mut level: Vec<Hash> = spans.iter().map(|span| span.hash).collect();
    while level.len() > 1 {
        level = level.chunks(BLOCK / HASH).map(|hashes| block(hashes.as_flattened())).collect();
    }
    // struct fsverity_descriptor, include/uapi/linux/fsverity.h
    let mut descriptor = [0; 256];
    let (version, sha256, log_of_block) = (1, 1, BLOCK.ilog2() as u8);
    descriptor[..3].copy_from_slice(&[version, sha256, log_of_block]);
    descriptor[8..16].copy_from_slice(&size.to_le_bytes());
    descriptor[16..16 + HASH].copy_from_slice(level.first().unwrap_or(&[0; HASH]));
    Digest::of_hash(Algorithm::Sha256, &Sha256::digest(descriptor))
}

/// The hash of a block; what is missing of it is zeros.
fn block(bytes: &[u8]) -> Hash {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut hasher = Sha256::new();
    hasher.update(bytes);
    hasher.update(&ZEROS[bytes.len()..]);
    hasher.finalize().into()
}

/// Takes a file in pieces, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Measuring {
    spans: Vec<Span>,
    /// What is not hashed yet, at most a span of it.
    pending: Vec<u8>,
}

impl Measuring {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while self.pending.len() + bytes.len() > SPAN {
            let (now, later) = bytes.split_at(SPAN - self.pending.len());
            bytes = later;
            if self.pending.is_empty() {
                self.spans.push(Span::of(now, false));
            } else {
                self.pending.extend_from_slice(now);
                self.spans.push(Span::of(&self.pending, false));
                self.pending.clear();
            }
        }
        self.pending.extend_from_slice(bytes);
    }

    pub(crate) fn finish(mut self) -> Digest {
        let is_all = self.spans.is_empty();
        self.spans.push(Span::of(&self.pending, is_all));
        digest(&self.spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(bytes: &[u8], piece: usize) -> String {
        let mut measuring = Measuring::default();
        bytes.chunks(piece).for_each(|piece| measuring.update(piece));
        measuring.finish().to_string()
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7 % 251) as u8).collect()
    }

    /// What `fsverity digest` of fsverity-utils 1.5 says.
    #[test]
    fn c5_a_file_is_measured_as_fs_verity_measures_it() {
        let known = [
            (0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
            (1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"),
            (4096, "85a99c4b6967a582bf757d2fbdde0c3f8079f9d2815c004f56439e0889f4a890"),
            (4097, "e1732a5d2e68be6a75f07ec76680be88df8d7eeac9277ded7737b6072ee87cee"),
            (524_288, "0cb3eb34f237fb7f1d315e8689838c17cfe0587a352dbb55cb8980cb2c035930"),
            (524_289, "43dc2dedc8244d72447124d03d2310d96fce60ed6b4bd07c81a2ddd70639bfbb"),
            (1_000_000, "b87cca12828afe2f3134497fce43fce37212e89211c164332596085c72aadb02"),
        ];
        for (length, digest) in known {
            assert_eq!(measured(&pattern(length), 1000), format!("sha256:{digest}"), "{length}");
        }
    }

    #[test]
    fn c5_pieces_of_any_length_give_the_same() {
        for length in [1, BLOCK, BLOCK + 1, SPAN - 1, SPAN, SPAN + 1, 3 * SPAN + 5] {
            let bytes = pattern(length);
            let whole = measured(&bytes, usize::MAX);
            for piece in [997, BLOCK, SPAN, SPAN + 1] {
                assert_eq!(measured(&bytes, piece), whole, "{length} in pieces of {piece}");
            }
            let mut other = bytes.clone();
            other[length - 1] ^= 1;
            assert_ne!(measured(&other, SPAN), whole, "{length}");
        }
    }
}
