//! The superblock, 128 bytes from byte 1024 on, and the table of devices behind it.

use super::options::Device;
use crate::core::crc32c::crc32c;

/// Where it begins.
pub(super) const OFFSET: u64 = 1024;
/// What it takes.
const SIZE: u64 = 128;
/// A device's slot, of the same size.
const SLOT: u64 = 128;
/// Where the table of devices begins.
pub(super) const TABLE: u64 = OFFSET + SIZE;

const MAGIC: u32 = 0xe0f5_e1e2;
const CHECKSUM_AT: usize = OFFSET as usize + 4;

/// The superblock has a checksum.
const COMPAT_CHECKSUM: u32 = 0x1;
/// Times of inodes are those of the last change of the content.
const COMPAT_MTIME: u32 = 0x2;
/// Some files are addressed chunk by chunk.
const INCOMPAT_CHUNKS: u32 = 0x4;
/// There are devices.
const INCOMPAT_DEVICES: u32 = 0x8;

/// What the superblock says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Superblock {
    pub(super) block_bits: u32,
    pub(super) root: u16,
    pub(super) inodes: u64,
    /// The time of compact inodes.
    pub(super) time: (u64, u32),
    /// Blocks of the image.
    pub(super) blocks: u32,
    /// The block that inodes are counted from.
    pub(super) metadata: u32,
    /// The block that shared attributes are counted from.
    pub(super) xattrs: u32,
    pub(super) uuid: [u8; 16],
    pub(super) has_chunks: bool,
    pub(super) devices: u16,
}

impl Superblock {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let incompatible =
            if self.has_chunks { INCOMPAT_CHUNKS } else { 0 } | if self.devices > 0 { INCOMPAT_DEVICES } else { 0 };
        let mut bytes = Vec::with_capacity(SIZE as usize);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]); // the checksum comes when all that it counts is there
        let compatible = COMPAT_MTIME | if has_checksum(1 << self.block_bits) { COMPAT_CHECKSUM } else { 0 };
        bytes.extend_from_slice(&compatible.to_le_bytes());
        bytes.extend_from_slice(&[self.block_bits as u8, 0]);
        bytes.extend_from_slice(&self.root.to_le_bytes());
        bytes.extend_from_slice(&self.inodes.to_le_bytes());
        bytes.extend_from_slice(&self.time.0.to_le_bytes());
        bytes.extend_from_slice(&self.time.1.to_le_bytes());
        bytes.extend_from_slice(&self.blocks.to_le_bytes());
        bytes.extend_from_slice(&self.metadata.to_le_bytes());
        bytes.extend_from_slice(&self.xattrs.to_le_bytes());
        bytes.extend_from_slice(&self.uuid);
        bytes.extend_from_slice(&[0; 16]); // the volume has no name
        bytes.extend_from_slice(&incompatible.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]); // nothing is compressed
        bytes.extend_from_slice(&self.devices.to_le_bytes());
        let slot = if self.devices > 0 { (TABLE / SLOT) as u16 } else { 0 };
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.resize(SIZE as usize, 0);
        bytes
    }
}

/// Where the table of so many devices ends.
pub(super) fn table_end(devices: usize) -> u64 {
    TABLE + devices as u64 * SLOT
}

/// A device's slot: what it is, how many blocks it has, and where it begins in the address space that all share.
pub(super) fn slot(device: &Device, blocks: u32, start: u32) -> Vec<u8> {
    let mut bytes = device.tag.to_vec();
    bytes.extend_from_slice(&blocks.to_le_bytes());
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.resize(SLOT as usize, 0);
    bytes
}

/// Whether images with such blocks have a checksum. It counts the rest of the superblock's block. In blocks that end before the superblock begins mkfs.erofs
/// writes none, and fsck.erofs 1.8 crashes where there is one.
fn has_checksum(block: u64) -> bool {
    block > OFFSET
}

/// Puts the checksum into the beginning of an image, which is at least a block.
pub(super) fn set_checksum(head: &mut [u8], block: u64) {
    if has_checksum(block) {
        let checksum = crc32c(!0, &head[OFFSET as usize..block as usize]);
        head[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}
