//! Which blocks a file has: extents in its inode, or a tree of them.

use super::BLOCK;
use crate::core::crc32c::crc32c;

const MAGIC: u16 = 0xf30a;
/// Extents in an inode.
const IN_INODE: usize = 4;
/// Extents in a block, which ends with a checksum.
const IN_BLOCK: usize = (BLOCK as usize - HEADER - 4) / ENTRY;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Blocks of an extent.
pub(super) const LONGEST: u64 = 32_768;
/// A run of blocks meets the end of a group after at least so many.
const APART: u64 = LONGEST / 2;

/// Blocks that follow one another, in the file and in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) blocks: u64,
}

/// A tree of extents.
#[derive(Debug)]
pub(super) struct Extents {
    /// What stands in the inode.
    pub(super) root: [u8; 60],
    /// The other blocks.
    pub(super) blocks: Vec<(u64, Vec<u8>)>,
}

/// The most blocks that the tree of a file takes with so many runs and blocks.
pub(super) fn most_blocks(runs: u64, blocks: u64) -> u64 {
    let mut entries = runs + blocks / APART + 1;
    let mut all = 0;
    while entries > IN_INODE as u64 {
        entries = entries.div_ceil(IN_BLOCK as u64);
        all += entries;
    }
    all
}

impl Extents {
    /// The tree of a file whose checksums begin with `seed`; `take` gives a block for it.
    pub(super) fn new(extents: &[Extent], seed: u32, take: &mut dyn FnMut() -> Option<u64>) -> Option<Self> {
        let mut entries: Vec<(u64, [u8; ENTRY])> =
            extents.iter().map(|extent| (extent.logical, leaf(extent))).collect();
        let mut blocks = Vec::new();
        let mut depth = 0;
        while entries.len() > IN_INODE {
            let mut above = Vec::with_capacity(entries.len().div_ceil(IN_BLOCK));
            for chunk in entries.chunks(IN_BLOCK) {
                let at = take()?;
                let mut block = node(chunk, IN_BLOCK, depth);
                block.resize(BLOCK as usize - 4, 0);
                let checksum = crc32c(seed, &block);
                block.extend_from_slice(&checksum.to_le_bytes());
                above.push((chunk[0].0, index(chunk[0].0, at)));
                blocks.push((at, block));
            }
            entries = above;
            depth += 1;
        }
        let mut root = [0; 60];
        let node = node(&entries, IN_INODE, depth);
        root[..node.len()].copy_from_slice(&node);
        Some(Self { root, blocks })
    }
}

fn node(entries: &[(u64, [u8; ENTRY])], most: usize, depth: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    for field in [MAGIC, entries.len() as u16, most as u16, depth] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&[0; 4]); // generation
    entries.iter().for_each(|(_, entry)| bytes.extend_from_slice(entry));
    bytes
}

fn leaf(extent: &Extent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..4].copy_from_slice(&(extent.logical as u32).to_le_bytes());
    entry[4..6].copy_from_slice(&(extent.blocks as u16).to_le_bytes());
    entry[6..8].copy_from_slice(&((extent.physical >> 32) as u16).to_le_bytes());
    entry[8..].copy_from_slice(&(extent.physical as u32).to_le_bytes());
    entry
}

fn index(logical: u64, physical: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..4].copy_from_slice(&(logical as u32).to_le_bytes());
    entry[4..8].copy_from_slice(&(physical as u32).to_le_bytes());
    entry[8..10].copy_from_slice(&((physical >> 32) as u16).to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_takes_no_more_blocks_than_was_said() {
        for runs in [0, 1, 4, 5, 340, 341, 1360, 1361, 500_000] {
            let extents: Vec<Extent> =
                (0..runs).map(|n| Extent { logical: 2 * n, physical: 100 + 2 * n, blocks: 1 }).collect();
            let mut next = 0;
            let tree = Extents::new(&extents, 0, &mut || {
                next += 1;
                Some(next)
            });
            assert!(tree.unwrap().blocks.len() as u64 <= most_blocks(runs, runs), "{runs}");
        }
        assert_eq!((most_blocks(1, 10), most_blocks(3, 10), most_blocks(1, 1 << 20)), (0, 0, 1));
    }
}
