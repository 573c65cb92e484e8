//! What is kept beside a content file: what the layer asks for, and where its files' contents lie.
//!
//! ```text
//! layflat contents\n     17 bytes
//! version                u32, little-endian
//! body                   postcard: the DiffID, the content file's size and digest, the record, the pieces, what was lost
//! SHA-256                of all that stands before
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::pieces::Pieces;
use crate::core::digest::Digest;
use crate::core::record::{ChangeKind, ContentId, NameId, Record};
use crate::unpack::Loss;

const MAGIC: &[u8] = b"layflat contents\n";
/// Increase it whenever the encoding of the body changes, be it by a field of an attribute.
const VERSION: u32 = 2;
const HASH: usize = 32;

/// What is known of a layer whose contents are kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) diff_id: Digest,
    /// Bytes of the content file.
    pub(super) size: u64,
    /// What fs-verity calls its digest.
    pub(super) verity: Digest,
    pub(super) record: Record,
    pub(super) pieces: Pieces,
    pub(super) losses: Vec<Loss>,
}

impl Index {
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let body = postcard::to_allocvec(self).map_err(std::io::Error::other)?;
        let mut bytes = [MAGIC, &VERSION.to_le_bytes(), &body].concat();
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        Ok(bytes)
    }

    /// Only if all of it is as it should be.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
        if Sha256::digest(checked).as_slice() != hash {
            return None;
        }
        let body = checked.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
        let (index, rest): (Self, _) = postcard::take_from_bytes(body).ok()?;
        // The last block is filled up.
        (rest.is_empty() && index.pieces.is_sound(index.size, 0) && index.is_sound()).then_some(index)
    }

    /// Whether everything that the record points at is there.
    fn is_sound(&self) -> bool {
        let named = |name: NameId| name.index() < self.record.names.len();
        self.record.changes.iter().all(|change| {
            named(change.name)
                && match change.kind {
                    ChangeKind::HardLink { target } => named(target),
                    // A file for a root has none; the stack refuses it.
                    ChangeKind::File { content: ContentId(u32::MAX), .. } => change.name == NameId::ROOT,
                    ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } => {
                        (content.0 as usize) < self.pieces.files()
                    }
                    _ => true,
                }
        })
    }
}
