//! Where the contents of files come from: what an image asks its caller.

use std::io;

use crate::core::record::ContentId;
use crate::core::tar::Fragment;

/// The contents of a stack's files. Both methods always give the same answer.
pub trait Contents {
    /// The parts of a file that are no holes, in order and apart; and where the first of their bytes is kept. Those of each part follow
    /// those of the one before.
    ///
    /// # Errors
    /// Nothing is known of it.
    fn fragments(&self, layer: usize, content: ContentId) -> io::Result<(u64, &[Fragment])>;

    /// Reads kept bytes.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self, layer: usize, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl std::fmt::Debug for dyn Contents + '_ {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Contents")
    }
}
