//! Changing layers while they are copied.

use std::io::{Read, Write};

/// Changes a layer on its way: an uncompressed archive in, an uncompressed archive out.
///
/// The same archive must always come out the same: images share layers, and a shared one is changed once.
pub trait EditLayer: std::fmt::Debug + Send + Sync {
    /// Reads all of a layer, and writes what it is to be. It may leave bytes unread behind the archive's end.
    ///
    /// # Errors
    /// Those of the reader and the writer as they are, so that they are told apart from its own.
    fn edit(&self, layer: &mut dyn Read, out: &mut dyn Write) -> std::io::Result<()>;
}
