//! How much overlay layers may hold in copies: of files of lower layers that get another name in a higher one (rule L2).
//!
//! A layer of a few bytes may link a large file of a lower layer, and a hundred layers may. So what copies take is limited
//! by what the image itself holds.

use crate::core::limits::Limits;
use crate::unpack::LayerReport;
use crate::unpack::stage::StageError;

/// Bytes that are free.
const FREE_BYTES: u64 = 256 << 20;
/// Files that are free.
const FREE_FILES: u64 = 10_000;

/// More copies of files of lower layers than an image may ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} links files of lower layers, which takes copies of more than {limit} {what} in all (rule L2)")]
pub struct TooManyCopies {
    /// The layer whose directory they are for.
    pub layer: usize,
    /// Bytes, or files.
    pub what: &'static str,
    /// How many are allowed.
    pub limit: u64,
}

/// What may still be copied.
#[derive(Debug)]
pub(crate) struct Copies {
    bytes: Account,
    files: Account,
}

#[derive(Debug)]
struct Account {
    limit: u64,
    left: u64,
}

impl Copies {
    /// For an image with these layers.
    pub(crate) fn of(layers: &[LayerReport], limits: &Limits) -> Self {
        let bytes = layers.iter().map(|layer| layer.expanded).sum();
        Self::of_sizes((bytes, layers.iter().map(|layer| layer.entries).sum()), limits)
    }

    /// For an image of so many bytes and entries.
    pub(crate) fn of_sizes((bytes, entries): (u64, u64), limits: &Limits) -> Self {
        let account = |own: u64, free: u64| {
            let limit = own.saturating_mul(limits.copy_up).saturating_add(free);
            Account { limit, left: limit }
        };
        Self { bytes: account(bytes, FREE_BYTES), files: account(entries, FREE_FILES) }
    }

    /// One more name in a layer's directory for what the layer does not have itself.
    pub(crate) fn file(&mut self, layer: usize) -> Result<(), StageError> {
        self.files.take(1, "files", layer)
    }

    /// So many bytes of content in a layer's directory.
    pub(crate) fn bytes(&mut self, count: u64, layer: usize) -> Result<(), StageError> {
        self.bytes.take(count, "bytes", layer)
    }
}

impl Account {
    fn take(&mut self, count: u64, what: &'static str, layer: usize) -> Result<(), StageError> {
        let limit = self.limit;
        self.left = self.left.checked_sub(count).ok_or(TooManyCopies { layer, what, limit })?;
        Ok(())
    }
}
