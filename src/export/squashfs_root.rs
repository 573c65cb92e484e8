//! Makes the only directory in the root of a SquashFS image the root.
//!
//! The superblock says where the root's inode is. That of the directory is as good: nothing else refers to the root. It is found by the
//! directory's entry in the old root. The format is that of Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use flate2::read::ZlibDecoder;

const MAGIC: u32 = 0x7371_7368;
const SUPERBLOCK: usize = 96;
/// Where in the superblock the root is.
const ROOT_AT: u64 = 32;
const INODES_AT: usize = 64;
const DIRECTORIES_AT: usize = 72;
/// Bytes of a block of metadata once it is decompressed.
const METADATA: usize = 8192;
/// A block of metadata that is not compressed.
const AS_IT_IS: u16 = 0x8000;

const DIRECTORY: u16 = 1;
const EXTENDED_DIRECTORY: u16 = 8;

/// Makes the one directory in the root the root.
///
/// # Errors
/// The image cannot be read or written, or is another than it must be.
pub(super) fn promote(image: &File) -> io::Result<()> {
    let mut superblock = [0; SUPERBLOCK];
    image.read_exact_at(&mut superblock, 0)?;
    let long = |at: usize| u64::from_le_bytes(array(&superblock, at));
    if u32::from_le_bytes(array(&superblock, 0)) != MAGIC || u16::from_le_bytes(array(&superblock, 20)) != 1 {
        return Err(unexpected("it is not compressed with gzip"));
    }
    let inode = metadata(image, long(INODES_AT), long(ROOT_AT as usize), 40)?;
    let (block, offset) = match u16::from_le_bytes(array(&inode, 0)) {
        DIRECTORY => (u32::from_le_bytes(array(&inode, 16)), u16::from_le_bytes(array(&inode, 26))),
        EXTENDED_DIRECTORY => (u32::from_le_bytes(array(&inode, 24)), u16::from_le_bytes(array(&inode, 34))),
        _ => return Err(unexpected("its root is not a directory")),
    };
    let listing = metadata(image, long(DIRECTORIES_AT), u64::from(block) << 16 | u64::from(offset), 20)?;
    if u32::from_le_bytes(array(&listing, 0)) != 0 {
        return Err(unexpected("its root has more than one name"));
    }
    let (start, offset) = (u32::from_le_bytes(array(&listing, 4)), u16::from_le_bytes(array(&listing, 12)));
    let root = u64::from(start) << 16 | u64::from(offset);
    image.write_all_at(&root.to_le_bytes(), ROOT_AT)
}

/// Bytes of a table, from a reference on: the place of a block of metadata in the table, and one in that block. What is asked for beyond the
/// table's end is zeros.
fn metadata(image: &File, table: u64, reference: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut at = table + (reference >> 16);
    let offset = (reference & 0xffff) as usize;
    let mut bytes = Vec::new();
    while bytes.len() < offset + length && bytes.len().is_multiple_of(METADATA) {
        let mut header = [0; 2];
        image.read_exact_at(&mut header, at)?;
        let header = u16::from_le_bytes(header);
        let mut stored = vec![0; usize::from(header & !AS_IT_IS)];
        image.read_exact_at(&mut stored, at + 2)?;
        at += 2 + stored.len() as u64;
        let before = bytes.len();
        if header & AS_IT_IS != 0 {
            bytes.extend_from_slice(&stored);
        } else {
            ZlibDecoder::new(&stored[..]).take(METADATA as u64).read_to_end(&mut bytes)?;
        }
        if bytes.len() == before {
            break;
        }
    }
    let mut wanted = bytes.get(offset..).ok_or_else(|| unexpected("its metadata are cut short"))?.to_vec();
    wanted.resize(length, 0);
    Ok(wanted)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sqfstar made another image than expected: {what}"))
}
