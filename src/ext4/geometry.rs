//! Where the tables of the block groups lie, and which blocks are left for files.
//!
//! A group is as many blocks as one block of bits can count. At its beginning it has, in this order: a copy of the superblock and of all
//! group descriptors (only groups 0, 1 and the powers of 3, 5 and 7), the bitmap of its blocks, that of its inodes, and its part of
//! the table of inodes.

use super::BLOCK;
use super::inode::{FIRST_INODE, INODE_BYTES};

/// Blocks of a group.
pub(super) const GROUP: u64 = 8 * BLOCK;
/// Bytes of a group descriptor.
pub(super) const DESCRIPTOR: u64 = 64;
/// A last group with less room for files than this is left out, as mke2fs does.
const LEAST: u64 = 50;
/// Inodes are made for files of this size, as mke2fs does.
const BYTES_PER_INODE: u64 = 16 << 10;
const INODES_PER_BLOCK: u64 = BLOCK / INODE_BYTES as u64;

/// The places of everything that is not of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u64,
    descriptor_blocks: u64,
    table_blocks: u64,
}

impl Geometry {
    /// A file system of at most so many blocks with at least so many inodes, if there can be one.
    pub(super) fn new(blocks: u64, inodes: u64) -> Option<Self> {
        let groups = blocks.div_ceil(GROUP);
        let most = groups * 8 * BLOCK;
        let comfortable = (inodes + inodes / 8 + u64::from(FIRST_INODE)).max(blocks * BLOCK / BYTES_PER_INODE);
        let inodes_per_group = comfortable.min(most).div_ceil(groups.max(1)).next_multiple_of(INODES_PER_BLOCK);
        let geometry = Self {
            blocks,
            groups,
            inodes_per_group,
            descriptor_blocks: (groups * DESCRIPTOR).div_ceil(BLOCK),
            table_blocks: inodes_per_group / INODES_PER_BLOCK,
        };
        let last = groups.checked_sub(1)?;
        if geometry.first_free(last) + LEAST > blocks {
            return Self::new(last * GROUP, inodes);
        }
        (inodes <= groups * inodes_per_group).then_some(geometry)
    }

    /// Whether a group has copies of the superblock and the descriptors.
    pub(super) fn has_superblock(group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power)
    }

    /// The first block behind its copies, where its bitmap of blocks is; that of inodes follows, and then the inodes.
    pub(super) fn bitmaps(&self, group: u64) -> u64 {
        let copies = if Self::has_superblock(group) { 1 + self.descriptor_blocks } else { 0 };
        group * GROUP + copies
    }

    /// The first block of a group's inodes.
    pub(super) fn table(&self, group: u64) -> u64 {
        self.bitmaps(group) + 2
    }

    /// The first block of a group that a file can have.
    pub(super) fn first_free(&self, group: u64) -> u64 {
        self.table(group) + self.table_blocks
    }

    /// Behind the last block of a group.
    pub(super) fn end(&self, group: u64) -> u64 {
        ((group + 1) * GROUP).min(self.blocks)
    }

    /// Blocks for files.
    pub(super) fn capacity(&self) -> u64 {
        (0..self.groups).map(|group| self.end(group) - self.first_free(group)).sum()
    }

    /// Inodes, those of no file counted.
    pub(super) fn inodes(&self) -> u64 {
        self.groups * self.inodes_per_group
    }

    /// Where an inode lies, in bytes.
    pub(super) fn inode(&self, number: u32) -> u64 {
        let index = u64::from(number) - 1;
        self.table(index / self.inodes_per_group) * BLOCK + index % self.inodes_per_group * INODE_BYTES as u64
    }
}

/// Hands out blocks, in order.
#[derive(Debug)]
pub(super) struct Allocator {
    geometry: Geometry,
    next: u64,
}

impl Allocator {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self { geometry, next: geometry.first_free(0) }
    }

    /// Blocks that follow one another: at most so many, at least one. None when all are in use.
    pub(super) fn take(&mut self, most: u64) -> Option<(u64, u64)> {
        let group = self.next / GROUP;
        let start = self.next.max(self.geometry.first_free(group));
        if start >= self.geometry.blocks {
            return None;
        }
        let end = self.geometry.end(group);
        if start >= end {
            self.next = end;
            return self.take(most);
        }
        let count = most.min(end - start);
        self.next = start + count;
        Some((start, count))
    }

    /// How many blocks of a group files have.
    pub(super) fn used(&self, group: u64) -> u64 {
        let first = self.geometry.first_free(group);
        self.next.clamp(first, self.geometry.end(group)) - first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_in_few_groups() {
        let groups: Vec<u64> = (0..130).filter(|&group| Geometry::has_superblock(group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn every_block_is_handed_out_once() {
        for blocks in [300, GROUP, GROUP + 10, GROUP + 1000, 4 * GROUP - 1] {
            let geometry = Geometry::new(blocks, 100).unwrap();
            let mut allocator = Allocator::new(geometry);
            let mut all = 0;
            while let Some((start, count)) = allocator.take(1000) {
                let group = start / GROUP;
                assert!(start >= geometry.first_free(group) && start + count <= geometry.end(group));
                all += count;
            }
            assert_eq!(all, geometry.capacity(), "{blocks}");
            assert_eq!((0..geometry.groups).map(|group| allocator.used(group)).sum::<u64>(), all);
        }
    }

    #[test]
    fn a_last_group_without_room_is_left_out() {
        assert_eq!(Geometry::new(GROUP + 10, 100).unwrap().blocks, GROUP);
        assert_eq!(Geometry::new(20, 100), None);
    }
}
