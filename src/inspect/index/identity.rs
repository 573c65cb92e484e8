//! What a file's content is known by: the SHA-256 of all its bytes, unless too many of them are holes.
//!
//! An image of a few bytes may state a hole of terabytes, and SHA-256 has no short way past zeros. So a layer has an
//! *allowance* of zeros to hash for its holes: four gibibytes, and more with everything that it really stores. A hole that
//! exceeds it is left out, and such a content is known by the SHA-256 of
//!
//! ```text
//! SHA-256 of the bytes without the holes that were left out    32 bytes
//! of each of those holes, in order: offset, length             u64, u64, little-endian
//! size                                                         u64, little-endian
//! ```
//!
//! No two contents share it, as far as none share a SHA-256. Two files that differ only in which of their zeros are
//! stored may have two of them: they count as different, which is the harmless mistake.

use sha2::{Digest as _, Sha256};

use super::zeros;

/// Zeros that are hashed in any case.
const FREE: u64 = 4 << 30;
/// Zeros for each byte that is stored.
const PER_BYTE: u64 = 16;

/// How many zeros of holes may still be hashed in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance(pub(super) u64);

impl Default for Allowance {
    fn default() -> Self {
        Self(FREE)
    }
}

impl Allowance {
    /// All there are: for a content of which it is known that all was hashed.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Adds what the storing of so many bytes allows.
    pub(super) fn stored(&mut self, bytes: u64) {
        self.0 = self.0.saturating_add(bytes.saturating_mul(PER_BYTE));
    }
}

/// Hashes one content.
#[derive(Debug, Default)]
pub(super) struct ContentHasher {
    bytes: Sha256,
    /// The end of what was hashed.
    at: u64,
    /// Of the holes that were left out.
    holes: Option<Sha256>,
}

/// What a content is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) hash: [u8; 32],
    /// Whether it is the SHA-256 of all bytes.
    pub(super) is_whole: bool,
}

impl ContentHasher {
    /// The next bytes that are stored; what is between them and the last ones is a hole.
    pub(super) fn data(&mut self, offset: u64, bytes: &[u8], allowance: &mut Allowance) {
        self.hole_up_to(offset, allowance);
        self.bytes.update(bytes);
        self.at += bytes.len() as u64;
        allowance.stored(bytes.len() as u64);
    }

    /// All of a file of this size was seen.
    pub(super) fn finish(mut self, size: u64, allowance: &mut Allowance) -> Identity {
        self.hole_up_to(size, allowance);
        let bytes: [u8; 32] = self.bytes.finalize().into();
        match self.holes {
            None => Identity { hash: bytes, is_whole: true },
            Some(holes) => {
                let all = Sha256::new().chain_update(bytes).chain_update(holes.finalize());
                Identity { hash: all.chain_update(size.to_le_bytes()).finalize().into(), is_whole: false }
            }
        }
    }

    fn hole_up_to(&mut self, offset: u64, allowance: &mut Allowance) {
        let length = offset.saturating_sub(self.at);
        if length == 0 {
            return;
        }
        match allowance.0.checked_sub(length) {
            Some(left) => {
                *allowance = if *allowance == Allowance::ALL { Allowance::ALL } else { Allowance(left) };
                zeros(length).for_each(|piece| self.bytes.update(piece));
            }
            None => {
                let holes = self.holes.get_or_insert_default();
                holes.update(self.at.to_le_bytes());
                holes.update(length.to_le_bytes());
            }
        }
        self.at = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(size: u64, pieces: &[(u64, &[u8])], mut allowance: Allowance) -> Identity {
        let mut hasher = ContentHasher::default();
        for (offset, bytes) in pieces {
            hasher.data(*offset, bytes, &mut allowance);
        }
        hasher.finish(size, &mut allowance)
    }

    #[test]
    fn holes_count_as_zeros_within_the_allowance() {
        let mut plain = vec![0; 200_000];
        plain[100_000..100_003].copy_from_slice(b"abc");
        let sparse = identity(200_000, &[(100_000, b"abc")], Allowance::default());
        assert_eq!(sparse, Identity { hash: Sha256::digest(&plain).into(), is_whole: true });
    }

    #[test]
    fn what_exceeds_it_is_told_apart_by_place_size_and_bytes() {
        const FAR: u64 = 1 << 42;
        let of = |size, pieces: &[(u64, &[u8])]| identity(size, pieces, Allowance::default());
        let one = of(FAR, &[(FAR - 3, b"abc")]);
        assert!(!one.is_whole);
        assert_eq!(one, of(FAR, &[(FAR - 3, b"a"), (FAR - 2, b"bc")]));
        let others = [
            of(FAR, &[(FAR - 3, b"abd")]),
            of(FAR, &[(FAR - 4, b"abc")]),
            of(FAR + 1, &[(FAR - 3, b"abc")]),
            of(FAR, &[(0, b"abc")]),
            of(FAR, &[]),
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(*other != one && others[..index].iter().all(|before| before != other), "{index}");
        }
    }

    #[test]
    fn what_is_stored_allows_more() {
        let mut allowance = Allowance(0);
        allowance.stored(10);
        assert!(identity(160, &[], allowance).is_whole);
        assert!(!identity(161, &[], allowance).is_whole);
    }
}
