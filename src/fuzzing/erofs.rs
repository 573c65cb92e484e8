//! EROFS images: what is planned of any layers is what a reader of the format finds in what is written.

mod image;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;

use crate::core::layer::{Failure, Place, ReadOptions, Sink, Unkept, read_layer};
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::{Attributes, ChangeKind, ContentId, DeviceKind, NameId, Names, Record};
use crate::core::stack::{Difference, Reading, Stack, What};
use crate::erofs::{BlockSize, Contents, Device, Options, Piece, Plan, Shape};
use image::{Image, Node};

/// Two layers, each an archive. The first byte says what image is made of them, the second one where the first archive ends.
pub fn erofs(input: &[u8]) {
    let [how, cut, rest @ ..] = input else { return };
    let (lower, upper) = rest.split_at(rest.len().min(usize::from(*cut) * 512));
    let options = ReadOptions { limits: super::layers::LIMITS, ..ReadOptions::default() };
    let mut memory = Memory { in_devices: how & 1 != 0, layers: Vec::new() };
    let mut records: Vec<Record> = Vec::new();
    for archive in [lower, upper] {
        let mut layer = Layer::default();
        let archive = super::mended(archive);
        let Ok(record) = read_layer(&mut archive.as_slice(), &mut layer, &options, &mut |_| {}) else { return };
        records.push(record);
        memory.layers.push(layer);
    }
    let Ok(stack) = Stack::replay(&records, Reading::default()) else { return };
    let shape = if how & 2 == 0 { Shape::Merged } else { Shape::Layered(XattrNamespace::Trusted) };
    let block_size = if how & 4 == 0 { BlockSize::Sector } else { BlockSize::Page };
    let device = |layer: &Layer| Device { tag: [0; 64], bytes: layer.bytes.len() as u64 };
    let devices = if memory.in_devices { memory.layers.iter().map(device).collect() } else { Vec::new() };
    let options = Options { block_size, devices, selinux: how & 8 != 0, ..Options::new(shape) };
    let whole = [stack.whole()];
    for difference in if shape == Shape::Merged { &whole[..] } else { stack.layers() } {
        check(&stack, difference, &memory, &options);
    }
}

fn check(stack: &Stack<'_>, difference: &Difference, memory: &Memory, options: &Options) {
    let mut lost: Vec<(Vec<u8>, String)> = Vec::new();
    let plan = Plan::new(stack, difference, memory, options, &mut |what, path| {
        lost.push((path().as_bytes().to_vec(), what.detail()));
    });
    let Ok(plan) = plan.inspect_err(|error| assert!(!error.to_string().is_empty())) else { return };
    let write = || {
        let mut bytes = Vec::new();
        plan.write(&mut bytes).expect("memory takes everything");
        bytes
    };
    let bytes = write();
    assert_eq!(bytes.len() as u64, plan.bytes(), "an image is as long as was planned");
    assert!(bytes == write(), "written again, it has other bytes");
    let again = Plan::new(stack, difference, memory, options, &mut |_, _| {}).expect("it was planned before");
    let mut other = Vec::new();
    again.write(&mut other).expect("memory takes everything");
    assert!(bytes == other, "planned again, it has other bytes");

    let devices: Vec<&[u8]> = memory.layers.iter().map(|layer| layer.bytes.as_slice()).collect();
    let image = Image::new(&bytes, if memory.in_devices { &devices } else { &[] });
    let found = image.tree();
    let entries = difference.entries();
    assert_eq!(found.len(), entries.len().max(1), "names");
    let mut links: BTreeMap<u64, u32> = BTreeMap::new();
    for node in found.values().filter(|node| !node.is_directory()) {
        *links.entry(node.number).or_default() += 1;
    }
    for (index, entry) in entries.iter().enumerate() {
        let path = stack.path(difference, index).as_bytes().to_vec();
        let node = &found[&path];
        let is_lost = lost.iter().any(|(other, _)| *other == path);
        match entry.what {
            What::Directory { attributes, .. } => {
                let directories = found.iter().filter(|(name, node)| node.is_directory() && is_child(name, &path));
                assert_eq!((node.kind(), node.links), (0o040_000, 2 + directories.count() as u32));
                attributes_are(node, &stack.directory_attributes(attributes), options, is_lost);
            }
            What::Whiteout => assert_eq!((node.kind(), node.device), (0o020_000, 0)),
            What::Leaf(inode) => {
                assert_eq!(node.links, links[&node.number]);
                let (layer, change) = stack.origin(inode);
                leaf_is(node, &change.kind, &memory.layers[layer], options);
                if let Some(attributes) = change.kind.attributes() {
                    attributes_are(node, attributes, options, is_lost);
                }
            }
        }
    }
}

fn is_child(name: &[u8], directory: &[u8]) -> bool {
    let above = name.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |slash| &name[..slash]);
    !name.is_empty() && above == directory
}

fn leaf_is(node: &Node, kind: &ChangeKind, layer: &Layer, options: &Options) {
    match kind {
        ChangeKind::File { size, content, .. } | ChangeKind::LinkSource { size, content, .. } => {
            assert_eq!((node.kind(), node.size), (0o100_000, *size));
            assert!(node.content == layer.content(*content, *size), "content");
        }
        ChangeKind::Symlink { target, .. } => {
            assert_eq!((node.kind(), &*node.content), (0o120_000, &**target));
        }
        ChangeKind::Fifo(_) => assert_eq!(node.kind(), 0o010_000),
        kind if kind.is_whiteout_device() && options.shape != Shape::Merged => {
            assert_eq!((node.kind(), node.size), (0o100_000, 0));
        }
        ChangeKind::Device { kind, major, minor, .. } => {
            let is_character = *kind == DeviceKind::Character;
            assert_eq!(node.kind(), if is_character { 0o020_000 } else { 0o060_000 });
            assert_eq!(node.device, minor & 0xff | major << 8 | (minor & !0xff) << 12);
        }
        other => panic!("{other:?} in an image"),
    }
}

fn attributes_are(node: &Node, attributes: &Attributes, options: &Options, is_lost: bool) {
    assert_eq!((node.uid, node.gid), (attributes.uid, attributes.gid));
    assert_eq!(node.time, (attributes.mtime.seconds, attributes.mtime.nanoseconds));
    if node.kind() != 0o120_000 {
        assert_eq!(node.mode & 0o7777, attributes.mode & 0o7777);
    }
    // Attributes that are overlayfs' own are escaped there, and ACLs written as the kernel has them.
    if options.shape != Shape::Merged || is_lost {
        return;
    }
    let is_plain = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"trusted.");
    let plain = node.xattrs.iter().filter(|(name, _)| is_plain(name));
    let expected = attributes.xattrs.iter().filter(|(name, _)| is_plain(name));
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = expected.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert!(plain.eq(&expected), "attributes");
}

/// The contents of layers, in memory.
#[derive(Debug)]
struct Memory {
    layers: Vec<Layer>,
    in_devices: bool,
}

#[derive(Debug, Default)]
struct Layer {
    /// As they lie in a device: every piece at a multiple of 512.
    bytes: Vec<u8>,
    files: Vec<Vec<Piece>>,
}

impl Layer {
    fn content(&self, content: ContentId, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        for piece in self.files.get(content.0 as usize).into_iter().flatten() {
            let stored = &self.bytes[piece.offset as usize..][..piece.length as usize];
            bytes[piece.logical as usize..][..stored.len()].copy_from_slice(stored);
        }
        bytes
    }
}

impl Sink for Layer {
    type Error = Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        _: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Infallible>> {
        self.files.push(Vec::new());
        Ok(ContentId(self.files.len() as u32 - 1))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Infallible>> {
        let length = bytes.len() as u64;
        if let Some(pieces) = self.files.last_mut() {
            match pieces.last_mut() {
                Some(last) if last.logical + last.length == offset => last.length += length,
                _ => {
                    self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
                    pieces.push(Piece { logical: offset, length, device: 0, offset: self.bytes.len() as u64 });
                }
            }
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Infallible>> {
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}

impl Contents for Memory {
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let own = self.layers[layer].files.get(content.0 as usize).map(Vec::as_slice).unwrap_or_default();
        let is_aligned = own.iter().all(|piece| piece.logical.is_multiple_of(512))
            && own.iter().rev().skip(1).all(|piece| piece.length.is_multiple_of(512));
        let device = if self.in_devices && is_aligned { layer as u16 + 1 } else { Piece::CARRIED };
        pieces.extend(own.iter().map(|&piece| Piece { device, ..piece }));
        Ok(())
    }

    fn read(&self, layer: usize, _: ContentId, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.layers[layer].bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}
