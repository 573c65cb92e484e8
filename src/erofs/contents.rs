//! Where the contents of files lie: what a plan asks its caller.

use std::io;

use crate::core::record::ContentId;

/// A part of a file, and where its bytes are. What no piece covers is a hole, and reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file it begins.
    pub logical: u64,
    /// How many bytes it has.
    pub length: u64,
    /// 0: the image carries the bytes itself, and asks [`Contents::read`] for them. `n`: they lie in the `n`-th of
    /// [`Options::devices`](super::Options::devices), counted from 1, and are not read.
    pub device: u16,
    /// Where the bytes begin in the device. A multiple of the block size, as `logical` is, and the end of the piece
    /// unless it is the end of the file. For device 0 it is whatever [`Contents::read`] understands.
    pub offset: u64,
}

impl Piece {
    /// The device that is the image itself.
    pub const CARRIED: u16 = 0;

    /// Where in the file it ends.
    pub(super) fn end(&self) -> u64 {
        self.logical + self.length
    }
}

/// The contents of a stack's files.
///
/// All methods are asked more than once for the same file, also at the same time, and must always give the same answer.
pub trait Contents: Sync {
    /// Appends the pieces of a file's content to `pieces`, in the order of the file. `layer` is the one whose record has
    /// the content.
    ///
    /// # Errors
    /// Nothing is known of it.
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<Piece>) -> io::Result<()>;

    /// Appends pieces of the same content that the image carries, of device 0: asked of a sparse file that lies so scattered in devices that
    /// addresses would take more than its bytes. Nothing is appended, and `false` returned, if its bytes cannot be read.
    ///
    /// # Errors
    /// Nothing is known of it.
    fn carried(&self, layer: usize, content: ContentId, pieces: &mut Vec<Piece>) -> io::Result<bool> {
        let _ = (layer, content, pieces);
        Ok(false)
    }

    /// Fills `buffer` with bytes that the image carries: those at `offset`, as a piece of this content states it. Called
    /// only for pieces of device 0.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self, layer: usize, content: ContentId, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}
