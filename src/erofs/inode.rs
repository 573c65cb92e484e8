//! Inodes: 32 bytes for those that need no more, 64 for the others.

/// What stands in an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) compact: bool,
    pub(super) layout: DataLayout,
    /// Bytes of the attributes behind it.
    pub(super) xattr_bytes: usize,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// The first block of the data, a device's number, or the size of chunks.
    pub(super) union: u32,
    /// What `stat` says on machines of 32 bits.
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) time: (i64, u32),
    pub(super) links: u32,
}

/// Where an inode's data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum DataLayout {
    /// In consecutive blocks.
    Plain = 0,
    /// In consecutive blocks, but for the end, which is right behind the inode.
    Inline = 2,
    /// In chunks of equal size, whose addresses are behind the inode.
    Chunks = 4,
}

/// Inodes begin at multiples of this.
pub(super) const SLOT: u64 = 32;
/// Chunk indexes have addresses with the number of a device, and not only addresses.
pub(super) const CHUNKS_WITH_DEVICES: u32 = 0x20;

const COMPACT: u64 = 32;
const EXTENDED: u64 = 64;

pub(super) const DIRECTORY: u32 = 0o040_000;
pub(super) const FILE: u32 = 0o100_000;
pub(super) const SYMLINK: u32 = 0o120_000;
pub(super) const CHARACTER_DEVICE: u32 = 0o020_000;
pub(super) const BLOCK_DEVICE: u32 = 0o060_000;
pub(super) const FIFO: u32 = 0o010_000;
const KIND: u32 = 0o170_000;

/// Bytes of an inode.
pub(super) fn size_of(compact: bool) -> u64 {
    if compact { COMPACT } else { EXTENDED }
}

/// The kind of file in a directory entry.
pub(super) fn file_type(mode: u32) -> u8 {
    match mode & KIND {
        FILE => 1,
        DIRECTORY => 2,
        CHARACTER_DEVICE => 3,
        BLOCK_DEVICE => 4,
        FIFO => 5,
        _ => 7,
    }
}

/// A device's number as the kernel's `new_encode_dev` writes it.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

impl Inode {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + size_of(self.compact) as usize;
        let format = u16::from(!self.compact) | (self.layout as u16) << 1;
        // The header counts for one, though it is of 12 bytes.
        let xattrs = if self.xattr_bytes == 0 { 0 } else { (self.xattr_bytes - 12) / 4 + 1 };
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&(xattrs as u16).to_le_bytes());
        bytes.extend_from_slice(&(self.mode as u16).to_le_bytes());
        if self.compact {
            bytes.extend_from_slice(&(self.links as u16).to_le_bytes());
            bytes.extend_from_slice(&(self.size as u32).to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&self.union.to_le_bytes());
            bytes.extend_from_slice(&self.number.to_le_bytes());
            bytes.extend_from_slice(&(self.uid as u16).to_le_bytes());
            bytes.extend_from_slice(&(self.gid as u16).to_le_bytes());
        } else {
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&self.size.to_le_bytes());
            bytes.extend_from_slice(&self.union.to_le_bytes());
            bytes.extend_from_slice(&self.number.to_le_bytes());
            bytes.extend_from_slice(&self.uid.to_le_bytes());
            bytes.extend_from_slice(&self.gid.to_le_bytes());
            bytes.extend_from_slice(&self.time.0.to_le_bytes());
            bytes.extend_from_slice(&self.time.1.to_le_bytes());
            bytes.extend_from_slice(&self.links.to_le_bytes());
        }
        bytes.resize(end, 0);
    }
}
