//! A table of pieces: which bytes of which file lie where.

use crate::core::record::ContentId;

/// What contents are counted in: a file system shows whole blocks of this many bytes (rule C1).
pub const BLOCK: u64 = 512;

/// A part of a file, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Piece {
    /// Where in the file it begins: at the start of a block.
    pub logical: u64,
    /// Its bytes: whole blocks, but for the end of the file.
    pub length: u64,
    /// Where in what holds it it begins: at the start of a block.
    pub offset: u64,
    /// What holds it.
    pub lies: Lies,
}

/// What holds a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Lies {
    /// The layer's content file, or its uncompressed archive, from whose start the offset counts.
    InLayer,
    /// The file beside the archive for what cannot be pointed at.
    Beside,
}

/// The pieces of all files of a layer. What no piece is of is a hole.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pieces {
    all: Vec<Piece>,
    /// For each file the end of its pieces.
    ends: Vec<u32>,
}

impl Pieces {
    /// The pieces of one file, in order.
    pub fn of(&self, content: ContentId) -> &[Piece] {
        let index = content.0 as usize;
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |below| self.ends[below]);
        self.all.get(start as usize..end as usize).unwrap_or_default()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.ends.len()
    }

    /// Adds a file; what it is counted as.
    pub(super) fn push(&mut self, pieces: impl IntoIterator<Item = Piece>) -> ContentId {
        self.all.extend(pieces);
        self.ends.push(self.all.len() as u32);
        ContentId(self.ends.len() as u32 - 1)
    }

    /// Whether the table is one, and no piece leads out of what holds it.
    pub(super) fn is_sound(&self, layer: u64, beside: u64) -> bool {
        let within = |piece: &Piece| {
            let most = match piece.lies {
                Lies::InLayer => layer,
                Lies::Beside => beside,
            };
            piece.offset.checked_add(piece.length).is_some_and(|end| end <= most)
                && piece.logical.checked_add(piece.length).is_some()
        };
        self.ends.is_sorted()
            && self.ends.last().map_or(0, |&end| end as usize) == self.all.len()
            && self.all.iter().all(within)
    }
}
