//! Compresses one block of a layer independently of all others, so that blocks can be compressed in parallel.
//!
//! With gzip the blocks are parts of one deflate stream, as pigz writes it: each begins with the 32 KiB before it as
//! its dictionary, and ends at a byte. With zstd each is a frame of its own. Both are what any reader of the format
//! takes.

use std::io::{Error, Result};

use flate2::{Crc, FlushCompress, Status};

use super::Compress;

/// How far back deflate can refer.
pub(super) const GZIP_WINDOW: usize = 32 << 10;
/// Large against the window that is read again for each block.
const GZIP_BLOCK: usize = 1 << 20;
/// Large against the window of the levels that are used: a frame cannot refer to the one before.
const ZSTD_BLOCK: usize = 4 << 20;
/// From this level on zstd's window is 8 MiB and more.
const ZSTD_LARGE_LEVEL: i32 = 16;
const ZSTD_LARGE_BLOCK: usize = 32 << 20;
/// Room for what a block has beside its content, and for more output.
const ROOM: usize = 32 << 10;

/// Content that is compressed in one go.
pub(super) struct Block {
    pub(super) content: Vec<u8>,
    /// What comes before it, as far as it can be referred to.
    pub(super) before: Vec<u8>,
    pub(super) last: bool,
}

/// A block that is compressed.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    /// Gzip's checksum of the content.
    pub(super) checksum: Crc,
}

/// How much content a block has.
pub(super) fn block_size(compress: Compress) -> usize {
    match compress {
        Compress::Zstd { level } if level >= ZSTD_LARGE_LEVEL => ZSTD_LARGE_BLOCK,
        Compress::Zstd { .. } => ZSTD_BLOCK,
        Compress::None | Compress::Gzip { .. } => GZIP_BLOCK,
    }
}

/// What a gzip member begins with: no flags, no time, and an unknown system, so that nothing of this machine shows.
pub(super) fn gzip_start() -> [u8; 10] {
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]
}

/// What a gzip member ends with.
pub(super) fn gzip_end(checksum: &Crc) -> [u8; 8] {
    let mut end = [0; 8];
    end[..4].copy_from_slice(&checksum.sum().to_le_bytes());
    end[4..].copy_from_slice(&checksum.amount().to_le_bytes());
    end
}

/// Compresses a block, with tables that nothing was compressed with before.
///
/// What a compressor still knows of earlier blocks after it was reset shows in its output, if rarely: then the bytes
/// would depend on which thread had which blocks.
pub(super) fn compress_block(compress: Compress, block: &Block) -> Result<Compressed> {
    let mut checksum = Crc::new();
    let bytes = match compress {
        Compress::None => block.content.clone(),
        Compress::Gzip { level } => {
            checksum.update(&block.content);
            deflate(level, block).map_err(Error::other)?
        }
        Compress::Zstd { level } => {
            let mut compressor = zstd::bulk::Compressor::new(level)?;
            compressor.include_checksum(true)?;
            compressor.compress(&block.content)?
        }
    };
    Ok(Compressed { bytes, checksum })
}

fn deflate(level: u32, block: &Block) -> std::result::Result<Vec<u8>, flate2::CompressError> {
    let mut deflate = flate2::Compress::new(flate2::Compression::new(level), false);
    if !block.before.is_empty() {
        deflate.set_dictionary(&block.before)?;
    }
    let flush = if block.last { FlushCompress::Finish } else { FlushCompress::Sync };
    // Room for content that cannot be compressed: then one call does it.
    let mut bytes = Vec::with_capacity(block.content.len() + block.content.len() / 64 + ROOM);
    loop {
        let taken = deflate.total_in() as usize;
        let status = deflate.compress_vec(&block.content[taken..], &mut bytes, flush)?;
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // A flush is complete once there was room for more than it took.
            _ => deflate.total_in() as usize == block.content.len() && bytes.len() < bytes.capacity(),
        };
        if done {
            return Ok(bytes);
        }
        bytes.reserve(ROOM);
    }
}
