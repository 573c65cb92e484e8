//! An inode, as it lies in the table.

use super::tree::Body;
use crate::core::crc32c::crc32c;
use crate::core::text::Timestamp;

pub(super) const INODE_BYTES: usize = 256;
pub(super) const ROOT_INODE: u32 = 2;
pub(super) const JOURNAL_INODE: u32 = 8;
/// The first that is not for the file system itself.
pub(super) const FIRST_INODE: u32 = 11;

pub(super) const KIND: u32 = 0o170_000;
pub(super) const DIRECTORY: u32 = 0o040_000;
pub(super) const FILE: u32 = 0o100_000;
pub(super) const SYMLINK: u32 = 0o120_000;
pub(super) const CHARACTER_DEVICE: u32 = 0o020_000;
pub(super) const BLOCK_DEVICE: u32 = 0o060_000;
pub(super) const FIFO: u32 = 0o010_000;

/// Fields behind those of ext2: nanoseconds, and the time of birth.
pub(super) const EXTRA: u16 = 32;
/// Where an inode's extended attributes begin.
pub(super) const XATTRS: usize = 128 + EXTRA as usize;
/// Directories with more subdirectories have one link.
const MOST_LINKS: u32 = 64_999;
/// The block map is of extents.
const EXTENTS: u32 = 0x8_0000;
/// Bytes of a symlink's target that the inode itself has room for.
pub(super) const SHORT_TARGET: usize = 59;
const EARLIEST: i64 = i32::MIN as i64;
const LATEST: i64 = i32::MAX as i64 + (3 << 32);

/// All that stands in an inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// With the kind of file.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) atime: Timestamp,
    /// Blocks that it has, whatever for.
    pub(super) blocks: u64,
    pub(super) map: Map,
    /// The block of extended attributes, or 0.
    pub(super) xattr_block: u64,
    /// Extended attributes behind the fields.
    pub(super) xattrs: Vec<u8>,
}

/// What stands where blocks are named.
#[derive(Debug, Clone)]
pub(super) enum Map {
    Extents([u8; 60]),
    /// A short target, or a device's number.
    Plain([u8; 60]),
}

/// What the checksums of an inode and of its blocks begin with.
pub(super) fn seed(file_system: u32, number: u32) -> u32 {
    crc32c(crc32c(file_system, &number.to_le_bytes()), &[0; 4])
}

/// The nearest time that can be held.
pub(super) fn nearest(time: Timestamp) -> Timestamp {
    match time.seconds {
        ..EARLIEST => Timestamp { seconds: EARLIEST, nanoseconds: 0 },
        seconds if seconds > LATEST => Timestamp { seconds: LATEST, nanoseconds: 0 },
        _ => time,
    }
}

/// What stands for a file without blocks.
pub(super) fn plain(body: Body<'_>) -> Map {
    let mut map = [0; 60];
    match body {
        Body::Symlink(target) => map[..target.len()].copy_from_slice(target),
        Body::Device(_, major, minor) if major < 256 && minor < 256 => {
            map[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
        }
        Body::Device(_, major, minor) => {
            let number = minor & 0xff | major << 8 | (minor & !0xff) << 12;
            map[4..8].copy_from_slice(&number.to_le_bytes());
        }
        Body::Directory | Body::File { .. } | Body::Fifo => {}
    }
    Map::Plain(map)
}

impl Inode {
    /// As it lies in the table, `seed` being what its checksum begins with.
    pub(super) fn encode(&self, seed: u32) -> [u8; INODE_BYTES] {
        let mut bytes = [0; INODE_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let low = |value: u32| (value as u16).to_le_bytes();
        let high = |value: u32| ((value >> 16) as u16).to_le_bytes();
        let links = if self.mode & KIND == DIRECTORY && self.links > MOST_LINKS { 1 } else { self.links };
        let sectors = self.blocks * 8;
        let (map, flags) = match &self.map {
            Map::Extents(map) => (map, EXTENTS),
            Map::Plain(map) => (map, 0),
        };
        put(0, &low(self.mode));
        put(2, &low(self.uid));
        put(4, &(self.size as u32).to_le_bytes());
        // Access, change, modification, birth.
        let times = [(8, 140, self.atime), (12, 132, self.mtime), (16, 136, self.mtime), (144, 148, self.mtime)];
        for (seconds, extra, time) in times {
            let time = nearest(time);
            let epoch = (time.seconds - i64::from(time.seconds as i32)) >> 32;
            put(seconds, &(time.seconds as u32).to_le_bytes());
            put(extra, &(time.nanoseconds << 2 | epoch as u32 & 3).to_le_bytes());
        }
        put(24, &low(self.gid));
        put(26, &low(links));
        put(28, &(sectors as u32).to_le_bytes());
        put(32, &flags.to_le_bytes());
        put(40, map);
        put(104, &(self.xattr_block as u32).to_le_bytes());
        put(108, &((self.size >> 32) as u32).to_le_bytes());
        put(116, &((sectors >> 32) as u16).to_le_bytes());
        put(118, &((self.xattr_block >> 32) as u16).to_le_bytes());
        put(120, &high(self.uid));
        put(122, &high(self.gid));
        put(128, &EXTRA.to_le_bytes());
        put(XATTRS, &self.xattrs);
        let checksum = crc32c(seed, &bytes);
        bytes[124..126].copy_from_slice(&low(checksum));
        bytes[130..132].copy_from_slice(&high(checksum));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_held_to_their_limits() {
        let time = |seconds| Timestamp { seconds, nanoseconds: 5 };
        assert_eq!(nearest(time(EARLIEST)), time(EARLIEST));
        assert_eq!(nearest(time(EARLIEST - 1)).seconds, EARLIEST);
        assert_eq!(nearest(time(15_032_385_535)), time(15_032_385_535));
        assert_eq!(nearest(time(15_032_385_536)).seconds, LATEST);
    }
}
