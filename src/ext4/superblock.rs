//! The superblock, and the descriptor of a block group.

use super::geometry::{DESCRIPTOR, GROUP, Geometry};
use super::inode::{EXTRA, FIRST_INODE, INODE_BYTES, JOURNAL_INODE};
use super::options::Options;
use crate::core::crc32c::crc32c;

/// Where it lies in the first block of the file system; elsewhere a copy begins its block.
pub(super) const OFFSET: u64 = 1024;
const BYTES: usize = 1024;

const HAS_JOURNAL: u32 = 0x4;
const EXT_ATTR: u32 = 0x8;
const DIR_INDEX: u32 = 0x20;
const FILETYPE: u32 = 0x2;
const EXTENTS: u32 = 0x40;
const SIXTY_FOUR_BIT: u32 = 0x80;
const SPARSE_SUPER: u32 = 0x1;
const LARGE_FILE: u32 = 0x2;
const HUGE_FILE: u32 = 0x8;
const DIR_NLINK: u32 = 0x20;
const EXTRA_ISIZE: u32 = 0x40;
const METADATA_CSUM: u32 = 0x400;
/// Attributes and ACLs are on without an option of the mount.
const DEFAULT_MOUNT: u32 = 0x4 | 0x8;
/// MD4, halved; of signed characters.
const HASH: u8 = 1;
const SIGNED_HASH: u32 = 1;

/// What there is of everything.
#[derive(Debug, Clone)]
pub(super) struct Superblock<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) options: &'a Options,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    /// When it was made.
    pub(super) seconds: u32,
    /// What names the journal's blocks in its inode, and its size; nothing if there is none.
    pub(super) journal: Option<([u8; 60], u64)>,
}

impl Superblock<'_> {
    /// What checksums of this file system begin with.
    pub(super) fn seed(options: &Options) -> u32 {
        crc32c(!0, &options.uuid)
    }

    /// The copy for a group.
    pub(super) fn encode(&self, group: u64) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        let geometry = self.geometry;
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let journal = if self.journal.is_some() { HAS_JOURNAL } else { 0 };
        let fields: [(usize, u32); 24] = [
            (0, geometry.inodes() as u32),
            (4, geometry.blocks as u32),
            (12, self.free_blocks as u32),
            (16, self.free_inodes as u32),
            (24, 2), // blocks of 4096 bytes
            (28, 2), // and so are clusters
            (32, GROUP as u32),
            (36, GROUP as u32),
            (40, geometry.inodes_per_group as u32),
            (48, self.seconds), // written
            (64, self.seconds), // checked
            (76, 1),            // the revision that has the fields from here on
            (84, FIRST_INODE),
            (92, EXT_ATTR | DIR_INDEX | journal),
            (96, FILETYPE | EXTENTS | SIXTY_FOUR_BIT),
            (100, SPARSE_SUPER | LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM),
            (224, self.journal.map_or(0, |_| JOURNAL_INODE)),
            (256, DEFAULT_MOUNT),
            (264, self.seconds), // made
            (328, self.journal.map_or(0, |(_, size)| (size >> 32) as u32)),
            (332, self.journal.map_or(0, |(_, size)| size as u32)),
            (336, (geometry.blocks >> 32) as u32),
            (344, (self.free_blocks >> 32) as u32),
            (352, SIGNED_HASH),
            // Zeros: never mounted, not to be checked after some time, no blocks for root alone, made by Linux.
        ];
        fields.into_iter().for_each(|(at, value)| put(at, &value.to_le_bytes()));
        let halves: [(usize, u16); 8] = [
            (54, u16::MAX), // any number of mounts
            (56, 0xef53),   // magic
            (58, 1),        // clean
            (60, 1),        // go on after an error
            (88, INODE_BYTES as u16),
            (90, group as u16),
            (254, DESCRIPTOR as u16),
            (348, EXTRA),
        ];
        halves.into_iter().for_each(|(at, value)| put(at, &value.to_le_bytes()));
        put(350, &EXTRA.to_le_bytes());
        put(104, &self.options.uuid);
        put(120, &self.options.label[..self.options.label.len().min(16)]);
        put(236, &self.options.hash_seed);
        put(252, &[HASH]);
        if let Some((map, _)) = &self.journal {
            put(253, &[1]); // what follows is a copy of the journal's block map
            put(268, map);
        }
        put(373, &[1]); // checksums are CRC-32C
        let checksum = crc32c(!0, &bytes[..BYTES - 4]);
        bytes[BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// What there is in a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) directories: u32,
    /// Inodes at the end of its table that were never in use.
    pub(super) untouched_inodes: u64,
    /// Checksums of the bitmaps; none for a bitmap that is not written, since nothing is in use.
    pub(super) block_bitmap: Option<u32>,
    pub(super) inode_bitmap: Option<u32>,
}

const INODES_UNTOUCHED: u16 = 1;
const BLOCKS_UNTOUCHED: u16 = 2;
const TABLE_IS_ZEROS: u16 = 4;

impl Group {
    /// The descriptor of a group, `seed` being what its checksum begins with.
    pub(super) fn encode(&self, number: u64, geometry: &Geometry, seed: u32) -> [u8; DESCRIPTOR as usize] {
        let mut bytes = [0; DESCRIPTOR as usize];
        let flag = |bitmap: Option<u32>, flag| if bitmap.is_none() { flag } else { 0 };
        let flags =
            TABLE_IS_ZEROS | flag(self.inode_bitmap, INODES_UNTOUCHED) | flag(self.block_bitmap, BLOCKS_UNTOUCHED);
        let bitmaps = geometry.bitmaps(number);
        let places = [(0, 32, bitmaps), (4, 36, bitmaps + 1), (8, 40, geometry.table(number))];
        for (low, high, block) in places {
            bytes[low..low + 4].copy_from_slice(&(block as u32).to_le_bytes());
            bytes[high..high + 4].copy_from_slice(&((block >> 32) as u32).to_le_bytes());
        }
        let halved = [
            (12, 44, self.free_blocks as u32),
            (14, 46, self.free_inodes as u32),
            (16, 48, self.directories),
            (28, 50, self.untouched_inodes as u32),
            (24, 56, self.block_bitmap.unwrap_or(0)),
            (26, 58, self.inode_bitmap.unwrap_or(0)),
        ];
        for (low, high, value) in halved {
            bytes[low..low + 2].copy_from_slice(&(value as u16).to_le_bytes());
            bytes[high..high + 2].copy_from_slice(&((value >> 16) as u16).to_le_bytes());
        }
        bytes[18..20].copy_from_slice(&flags.to_le_bytes());
        let checksum = crc32c(crc32c(seed, &(number as u32).to_le_bytes()), &bytes);
        bytes[30..32].copy_from_slice(&(checksum as u16).to_le_bytes());
        bytes
    }
}
