//! A reader of EROFS images, as the kernel's fs/erofs/erofs_fs.h describes them. It shares no code with what writes them, and panics at whatever is not as
//! it must be.

use std::collections::BTreeMap;

/// An image, and what its devices hold.
pub(super) struct Image<'a> {
    bytes: &'a [u8],
    devices: &'a [&'a [u8]],
    /// Where each device begins in the address space that all share, in blocks, and how many it has.
    mapped: Vec<(u64, u64)>,
    bits: u32,
    metadata: usize,
    xattrs: usize,
    time: (i64, u32),
    root: u64,
}

/// A file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u64,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) time: (i64, u32),
    /// Of a device.
    pub(super) device: u32,
    /// Of a file; of a link its target.
    pub(super) content: Vec<u8>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    pub(super) fn kind(&self) -> u32 {
        self.mode & 0o170_000
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == 0o040_000
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl<'a> Image<'a> {
    pub(super) fn new(bytes: &'a [u8], devices: &'a [&'a [u8]]) -> Self {
        let superblock = &bytes[1024..1152];
        assert_eq!(u32_at(superblock, 0), 0xe0f5_e1e2, "magic");
        let bits = u32::from(superblock[12]);
        assert_eq!(u64::from(u32_at(superblock, 36)) << bits, bytes.len() as u64, "blocks");
        assert_eq!(usize::from(u16_at(superblock, 86)), devices.len(), "devices");
        let table = usize::from(u16_at(superblock, 88)) * 128;
        let mapped = (0..devices.len()).map(|index| {
            let slot = table + index * 128;
            let (blocks, start) = (u32_at(bytes, slot + 64), u32_at(bytes, slot + 68));
            assert!(u64::from(blocks) << bits >= devices[index].len() as u64, "blocks of a device");
            (u64::from(start), u64::from(blocks))
        });
        Self {
            bytes,
            devices,
            mapped: mapped.collect(),
            bits,
            metadata: (u32_at(superblock, 40) as usize) << bits,
            xattrs: (u32_at(superblock, 44) as usize) << bits,
            time: (u64_at(superblock, 24) as i64, u32_at(superblock, 32)),
            root: u64::from(u16_at(superblock, 14)),
        }
    }

    /// All names, by their paths; the root has none.
    pub(super) fn tree(&self) -> BTreeMap<Vec<u8>, Node> {
        let mut tree = BTreeMap::new();
        let mut waiting = vec![(Vec::new(), self.root, self.root)];
        while let Some((path, number, parent)) = waiting.pop() {
            let node = self.node(number);
            if node.is_directory() {
                let names = self.names(&node.content);
                assert!(names.windows(2).all(|pair| pair[0].0 < pair[1].0), "names in order");
                let number_of = |wanted: &[u8]| names.iter().find(|(name, ..)| *name == wanted).map(|name| name.1);
                assert_eq!((number_of(b"."), number_of(b"..")), (Some(number), Some(parent)));
                for (name, child, kind) in names.iter().filter(|(name, ..)| !matches!(*name, b"." | b"..")) {
                    let path = if path.is_empty() { name.to_vec() } else { [&path[..], b"/", name].concat() };
                    let types = [0o100_000, 0o040_000, 0o020_000, 0o060_000, 0o010_000, 0o140_000, 0o120_000];
                    assert_eq!(types[usize::from(*kind) - 1], self.node(*child).kind(), "the type in a directory");
                    waiting.push((path, *child, number));
                }
            }
            assert!(tree.insert(path, node).is_none(), "a path twice");
        }
        tree
    }

    fn node(&self, number: u64) -> Node {
        let at = self.metadata + number as usize * 32;
        let inode = &self.bytes[at..];
        let format = u16_at(inode, 0);
        let is_extended = format & 1 != 0;
        let mode = u32::from(u16_at(inode, 4));
        let union = u32_at(inode, 16);
        let count = usize::from(u16_at(inode, 2));
        let xattr_bytes = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let head = if is_extended { 64 } else { 32 };
        let block = 1 << self.bits;
        assert!(at % block + head <= block, "an inode in two blocks");
        let size = if is_extended { u64_at(inode, 8) } else { u64::from(u32_at(inode, 8)) };
        let (uid, gid) = match is_extended {
            true => (u32_at(inode, 24), u32_at(inode, 28)),
            false => (u32::from(u16_at(inode, 24)), u32::from(u16_at(inode, 26))),
        };
        let time = if is_extended { (u64_at(inode, 32) as i64, u32_at(inode, 40)) } else { self.time };
        let links = if is_extended { u32_at(inode, 44) } else { u32::from(u16_at(inode, 6)) };
        let behind = at + head + xattr_bytes;
        let has_content = matches!(mode & 0o170_000, 0o040_000 | 0o100_000 | 0o120_000);
        let content = if has_content { self.content(format >> 1 & 7, size, union, behind) } else { Vec::new() };
        let xattrs = if count == 0 { BTreeMap::new() } else { self.xattrs_of(at + head, xattr_bytes) };
        Node { number, mode, links, uid, gid, size, time, device: union, content, xattrs }
    }

    /// Some blocks, by their address in the space that all devices share.
    fn blocks(&self, address: u64, length: usize) -> &'a [u8] {
        let own = self.bytes.len() as u64 >> self.bits;
        if address < own {
            return &self.bytes[(address << self.bits) as usize..][..length];
        }
        let within = |&(start, blocks): &(u64, u64)| (start..start + blocks).contains(&address);
        let device = self.mapped.iter().position(within).expect("a device has the address");
        &self.devices[device][((address - self.mapped[device].0) << self.bits) as usize..][..length]
    }

    fn content(&self, layout: u16, size: u64, union: u32, behind: usize) -> Vec<u8> {
        let (size, block) = (size as usize, 1_usize << self.bits);
        match layout {
            0 if size == 0 => Vec::new(),
            0 => self.blocks(union.into(), size).to_vec(),
            2 => {
                let tail = size % block;
                assert!(behind % block + tail <= block && tail > 0, "an end in two blocks");
                let whole = if size > tail { self.blocks(union.into(), size - tail) } else { &[] };
                [whole, &self.bytes[behind..behind + tail]].concat()
            }
            4 => {
                assert_eq!(union & !0x3f, 0, "the format of chunks");
                let chunk = block << (union & 0x1f);
                let first = behind.next_multiple_of(8);
                let mut content = Vec::with_capacity(size);
                for (index, at) in (0..size).step_by(chunk).enumerate() {
                    let length = chunk.min(size - at);
                    let address = first + index * 8;
                    let (device, start) = (u16_at(self.bytes, address + 2), u32_at(self.bytes, address + 4));
                    let offset = (start as usize) << self.bits;
                    match (start, device) {
                        (u32::MAX, _) => content.resize(content.len() + length, 0),
                        (_, 0) => content.extend_from_slice(&self.bytes[offset..][..length]),
                        (_, device) => {
                            content.extend_from_slice(&self.devices[usize::from(device) - 1][offset..][..length]);
                        }
                    }
                }
                content
            }
            other => panic!("data layout {other}"),
        }
    }

    /// The names of a directory, each with its inode and its type.
    fn names<'c>(&self, content: &'c [u8]) -> Vec<(&'c [u8], u64, u8)> {
        let mut names = Vec::new();
        for block in content.chunks(1 << self.bits) {
            let count = usize::from(u16_at(block, 8)) / 12;
            for index in 0..count {
                let entry = &block[index * 12..];
                let start = usize::from(u16_at(entry, 8));
                let is_last = index + 1 == count;
                let name = if is_last { &block[start..] } else { &block[start..usize::from(u16_at(entry, 20))] };
                let end = name.iter().position(|&byte| byte == 0).filter(|_| is_last).unwrap_or(name.len());
                names.push((&name[..end], u64_at(entry, 0), entry[10]));
            }
        }
        names
    }

    fn xattrs_of(&self, at: usize, length: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut xattrs = BTreeMap::new();
        let shared = usize::from(self.bytes[at + 4]);
        for index in 0..shared {
            let number = u32_at(self.bytes, at + 12 + index * 4) as usize;
            let (name, value, _) = xattr(&self.bytes[self.xattrs + number * 4..]);
            xattrs.insert(name, value);
        }
        let mut rest = &self.bytes[at + 12 + shared * 4..at + length];
        while !rest.is_empty() {
            let (name, value, taken) = xattr(rest);
            assert!(xattrs.insert(name, value).is_none(), "an attribute twice");
            rest = &rest[taken..];
        }
        xattrs
    }
}

/// An attribute: its name, its value, and the bytes that it takes.
fn xattr(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, usize) {
    let (name, value) = (usize::from(bytes[0]), usize::from(u16_at(bytes, 2)));
    let prefix: &[u8] = match bytes[1] {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        other => panic!("prefix {other}"),
    };
    let end = 4 + name + value;
    ([prefix, &bytes[4..4 + name]].concat(), bytes[4 + name..end].to_vec(), end.next_multiple_of(4))
}
