//! Directories: their names one after the other, in blocks of which each ends with a checksum.

use super::BLOCK;
use super::inode;
use super::tree::Name;
use crate::core::crc32c::crc32c;

/// Bytes of a block that names can have; a checksum follows.
const ROOM: usize = BLOCK as usize - 12;

/// Bytes of a name with what stands before it.
fn size(name: &[u8]) -> usize {
    (8 + name.len()).next_multiple_of(4)
}

/// How many blocks the names take.
pub(super) fn blocks<'a>(names: impl Iterator<Item = Name<'a>>) -> u64 {
    let (mut blocks, mut used) = (1, 0);
    for name in names {
        let size = size(name.name);
        if used + size > ROOM {
            (blocks, used) = (blocks + 1, 0);
        }
        used += size;
    }
    blocks
}

/// The blocks of a directory whose checksums begin with `seed`.
pub(super) fn write<'a>(names: impl Iterator<Item = Name<'a>>, seed: u32) -> Vec<u8> {
    let mut all: Vec<u8> = Vec::new();
    let mut block: Vec<u8> = Vec::with_capacity(BLOCK as usize);
    // Where in the block its last name begins.
    let mut last = 0;
    for Name { name, inode, mode } in names {
        let size = size(name);
        if block.len() + size > ROOM {
            end(&mut all, &mut block, last, seed);
        }
        last = block.len();
        block.extend_from_slice(&inode.to_le_bytes());
        block.extend_from_slice(&(size as u16).to_le_bytes());
        block.extend_from_slice(&[name.len() as u8, kind(mode)]);
        block.extend_from_slice(name);
        block.resize(last + size, 0);
    }
    end(&mut all, &mut block, last, seed);
    all
}

/// The last name of a block has what is left of it.
fn end(all: &mut Vec<u8>, block: &mut Vec<u8>, last: usize, seed: u32) {
    block[last + 4..last + 6].copy_from_slice(&((ROOM - last) as u16).to_le_bytes());
    block.resize(ROOM, 0);
    let checksum = crc32c(seed, block);
    all.append(block);
    all.extend_from_slice(&[0, 0, 0, 0, 12, 0, 0, 0xde]);
    all.extend_from_slice(&checksum.to_le_bytes());
}

fn kind(mode: u32) -> u8 {
    match mode & inode::KIND {
        inode::DIRECTORY => 2,
        inode::CHARACTER_DEVICE => 3,
        inode::BLOCK_DEVICE => 4,
        inode::FIFO => 5,
        inode::SYMLINK => 7,
        _ => 1,
    }
}
