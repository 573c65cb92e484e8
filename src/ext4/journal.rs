//! The journal: a file of zeros, but for its first block.

use super::BLOCK;

/// Blocks of the journal of a file system with so many blocks: as mke2fs has it, which leaves it out of the smallest.
pub(super) fn blocks(file_system: u64) -> u64 {
    let sizes = [(2048, 0), (32_768, 1024), (262_144, 4096), (524_288, 8192), (4_194_304, 16_384)];
    sizes.into_iter().find(|(below, _)| file_system < *below).map_or(32_768, |(_, journal)| journal)
}

/// The first block of an empty journal. All fields are big-endian.
pub(super) fn superblock(blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK as usize];
    let fields = [
        (0, 0xc03b_3998), // magic
        (4, 4),           // a superblock, version 2
        (12, BLOCK as u32),
        (16, blocks as u32),
        (20, 1), // the first block of the log
        (24, 1), // the first transaction
        (64, 1), // file systems that use it
    ];
    for (at, value) in fields {
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    }
    bytes
}
