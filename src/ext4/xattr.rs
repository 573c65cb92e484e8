//! Extended attributes: in what is left of an inode, and in one block.

use super::error::Lost;
use super::inode::{INODE_BYTES, XATTRS};
use super::{BLOCK, inode};
use crate::core::crc32c::crc32c;
use crate::core::layer::{Holder, kept_in_image};
use crate::core::record::Attributes;

const MAGIC: u32 = 0xea02_0000;
/// Bytes before the attributes in a block.
const HEADER: usize = 32;
/// Bytes before an attribute's name.
const ENTRY: usize = 16;
/// What an inode has room for, behind the magic number and before the end of the list.
const IN_INODE: usize = INODE_BYTES - XATTRS - 8;
const IN_BLOCK: usize = BLOCK as usize - HEADER - 4;
/// The number of the version of an ACL on disk, and of the same as an extended attribute.
const ACL_ON_DISK: u32 = 1;

/// An attribute: the number of its name's prefix, the rest of its name, its value. In the order in which a block has them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Xattr {
    prefix: u8,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Xattr {
    fn bytes(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// Its checksum of a kind, over name and value.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0u32, |hash, &byte| hash << 5 ^ hash >> 27 ^ u32::from(byte));
        self.value.chunks(4).fold(name, |hash, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            hash << 16 ^ hash >> 16 ^ u32::from_le_bytes(word)
        })
    }
}

/// An inode's attributes, by where they go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Xattrs {
    inode: Vec<Xattr>,
    block: Vec<Xattr>,
}

impl Xattrs {
    /// What an inode with this mode, the kind of file included, has. `lost` is told what there is no room for, and what Linux would not
    /// set.
    pub(super) fn of(attributes: &Attributes, mode: u32, selinux: bool, lost: &mut dyn FnMut(&Lost<'_>)) -> Self {
        let holder = match mode & inode::KIND {
            inode::DIRECTORY => Holder::Directory,
            inode::FILE => Holder::File,
            inode::SYMLINK => Holder::Symlink,
            _ => Holder::Special,
        };
        let mut all = Vec::new();
        for (name, value) in attributes.xattrs.iter() {
            if name == b"security.selinux" && !selinux {
                continue;
            }
            match kept_in_image(holder, name, value, attributes.mode) {
                Ok(None) => {}
                Ok(Some(value)) => match encode(name, &value) {
                    Some(xattr) => all.push((name, xattr)),
                    None => lost(&Lost::Xattr { name, why: "ext4 has no such names" }),
                },
                Err(why) => lost(&Lost::Xattr { name, why }),
            }
        }
        // First what decides who may do what, and then the small ones.
        all.sort_by_key(|(name, xattr)| (name.starts_with(b"user."), name.starts_with(b"trusted."), xattr.bytes()));
        let mut placed = Self::default();
        let (mut in_inode, mut in_block) = (IN_INODE, IN_BLOCK);
        for (name, xattr) in all {
            let bytes = xattr.bytes();
            let (room, list) = match () {
                () if bytes <= in_inode => (&mut in_inode, &mut placed.inode),
                () if bytes <= in_block => (&mut in_block, &mut placed.block),
                () => {
                    lost(&Lost::Xattr { name, why: "ext4 has room for about 4000 bytes of them" });
                    continue;
                }
            };
            *room -= bytes;
            list.push(xattr);
        }
        for list in [&mut placed.inode, &mut placed.block] {
            list.sort_by(|one, other| {
                (one.prefix, one.name.len(), &one.name).cmp(&(other.prefix, other.name.len(), &other.name))
            });
        }
        placed
    }

    /// Whether a block is needed.
    pub(super) fn has_block(&self) -> bool {
        !self.block.is_empty()
    }

    /// What stands in the inode.
    pub(super) fn in_inode(&self) -> Vec<u8> {
        if self.inode.is_empty() {
            return Vec::new();
        }
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(laid_out(&self.inode, INODE_BYTES - XATTRS - 4, 0));
        bytes
    }

    /// What stands in the block with this number, `seed` being what checksums of the file system begin with.
    pub(super) fn in_block(&self, number: u64, seed: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        for (at, value) in [(0, MAGIC), (4, 1), (8, 1)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        bytes.extend(laid_out(&self.block, BLOCK as usize - HEADER, HEADER));
        let checksum = crc32c(crc32c(seed, &number.to_le_bytes()), &bytes);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Names from the front, values from the back. Where a value is, is counted from `offset` bytes before.
fn laid_out(list: &[Xattr], room: usize, offset: usize) -> Vec<u8> {
    let mut bytes = vec![0; room];
    let (mut at, mut end) = (0, room);
    for xattr in list {
        end -= xattr.value.len().next_multiple_of(4);
        bytes[end..end + xattr.value.len()].copy_from_slice(&xattr.value);
        let place = if xattr.value.is_empty() { 0 } else { end + offset };
        bytes[at..at + 2].copy_from_slice(&[xattr.name.len() as u8, xattr.prefix]);
        bytes[at + 2..at + 4].copy_from_slice(&(place as u16).to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&(xattr.value.len() as u32).to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&xattr.hash().to_le_bytes());
        bytes[at + ENTRY..at + ENTRY + xattr.name.len()].copy_from_slice(&xattr.name);
        at += ENTRY + xattr.name.len().next_multiple_of(4);
    }
    bytes
}

fn encode(name: &[u8], value: &[u8]) -> Option<Xattr> {
    let (prefix, rest) = match name {
        b"system.posix_acl_access" => (2, &b""[..]),
        b"system.posix_acl_default" => (3, &b""[..]),
        _ => [(&b"user."[..], 1), (b"trusted.", 4), (b"security.", 6)]
            .into_iter()
            .find_map(|(prefix, number)| Some((number, name.strip_prefix(prefix)?)))
            .filter(|(_, rest)| !rest.is_empty())?,
    };
    let value = if matches!(prefix, 2 | 3) { acl(value) } else { value.to_vec() };
    Some(Xattr { prefix, name: rest.into(), value: value.into() })
}

/// A valid ACL as it lies on disk: entries that name nobody have no number.
fn acl(value: &[u8]) -> Vec<u8> {
    let mut bytes = ACL_ON_DISK.to_le_bytes().to_vec();
    let (entries, _) = value.get(4..).unwrap_or_default().as_chunks::<8>();
    for entry in entries {
        const USER: [u8; 2] = [2, 0];
        const GROUP: [u8; 2] = [8, 0];
        let is_named = entry[..2] == USER || entry[..2] == GROUP;
        bytes.extend_from_slice(if is_named { entry } else { &entry[..4] });
    }
    bytes
}
