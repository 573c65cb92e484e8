//! Writes an image: inode after inode with all that belongs to it, and at last what is taken and what is free.

use std::io;

use super::error::Ext4Error;
use super::extents::{self, Extent, Extents};
use super::geometry::{Allocator, GROUP, Geometry};
use super::inode::{self, FIRST_INODE, INODE_BYTES, Inode, JOURNAL_INODE, Map, SHORT_TARGET};
use super::plan::{Plan, Run, runs};
use super::superblock::{self, Group, Superblock};
use super::tree::{Body, Node, Tree};
use super::xattr::Xattrs;
use super::{BLOCK, directory, journal};
use crate::core::crc32c::crc32c;
use crate::core::record::{ContentId, LayerPath};
use crate::core::tar::Fragment;
use crate::core::text::Timestamp;

/// Bytes of content that are copied at once.
const CHUNK: u64 = 256 << 10;

/// Puts bytes at an offset.
type Put<'p> = &'p mut dyn FnMut(u64, &[u8]) -> io::Result<()>;

impl Plan<'_, '_> {
    /// Writes the image. `put` is given bytes and where they belong; no byte is given twice, and what is not given is zeros.
    ///
    /// # Errors
    /// Contents that cannot be read, and whatever `put` fails with.
    pub fn write(&self, put: Put<'_>) -> Result<(), Ext4Error> {
        let mut writer = Writer {
            plan: self,
            put,
            allocator: Allocator::new(self.geometry),
            seed: Superblock::seed(self.options),
            table: Table::default(),
            directories: vec![0; self.geometry.groups as usize],
            // Those before it are reserved, and so in use whatever the image holds.
            last_inode: FIRST_INODE - 1,
            buffer: Vec::new(),
        };
        writer.node(0)?;
        let journal = writer.journal()?;
        for node in 1..self.tree.nodes.len() as u32 {
            writer.node(node)?;
        }
        writer.flush_table()?;
        writer.finish(journal)
    }
}

struct Writer<'w, 'a, 'r> {
    plan: &'w Plan<'a, 'r>,
    put: Put<'w>,
    allocator: Allocator,
    /// What checksums begin with.
    seed: u32,
    table: Table,
    /// By group.
    directories: Vec<u32>,
    last_inode: u32,
    buffer: Vec<u8>,
}

/// A block of the table of inodes that is being filled.
#[derive(Default)]
struct Table {
    /// Its number, where there is one.
    block: Option<u64>,
    bytes: Vec<u8>,
}

/// A file's content, and where its bytes are kept.
struct Source<'f> {
    layer: usize,
    at: u64,
    fragments: &'f [Fragment],
}

impl Writer<'_, '_, '_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), Ext4Error> {
        (self.put)(at, bytes).map_err(Ext4Error::Write)
    }

    /// One inode, and all that belongs to it.
    fn node(&mut self, index: u32) -> Result<(), Ext4Error> {
        let plan = self.plan;
        if plan.options.cancel.is_cancelled() {
            return Err(Ext4Error::Cancelled);
        }
        let node = plan.tree.nodes[index as usize];
        let number = Tree::inode(index);
        let seed = inode::seed(self.seed, number);
        let (body, mode, attributes) = plan.tree.facts(node);
        let (size, map, mut blocks) = match body {
            Body::Directory => self.directory(node, number, seed)?,
            Body::File { size, layer, content } => self.file(node, (size, layer, content), seed)?,
            Body::Symlink(target) if target.len() > SHORT_TARGET => {
                let (extents, tree, blocks) = self.allocate(&[(0, 1)], seed)?;
                self.put(extents[0].physical * BLOCK, target)?;
                (target.len() as u64, tree, blocks)
            }
            Body::Symlink(target) => (target.len() as u64, inode::plain(body), 0),
            Body::Device(..) | Body::Fifo => (0, inode::plain(body), 0),
        };
        // What is lost is known from the plan.
        let xattrs = Xattrs::of(&attributes, mode, plan.options.selinux, &mut |_| {});
        let mut xattr_block = 0;
        if xattrs.has_block() {
            xattr_block = self.take_one()?;
            blocks += 1;
            let block = xattrs.in_block(xattr_block, self.seed);
            self.put(xattr_block * BLOCK, &block)?;
        }
        let inode = Inode {
            mode,
            uid: attributes.uid,
            gid: attributes.gid,
            links: node.links,
            size,
            mtime: attributes.mtime,
            atime: attributes.atime,
            blocks,
            map,
            xattr_block,
            xattrs: xattrs.in_inode(),
        };
        self.inode(number, &inode.encode(seed))
    }

    fn directory(&mut self, node: Node, number: u32, seed: u32) -> Result<(u64, Map, u64), Ext4Error> {
        self.directories[((u64::from(number) - 1) / self.plan.geometry.inodes_per_group) as usize] += 1;
        let bytes = directory::write(self.plan.tree.names(node), seed);
        let size = bytes.len() as u64;
        let (extents, tree, blocks) = self.allocate(&[(0, size / BLOCK)], seed)?;
        for extent in extents {
            let (from, to) = (extent.logical * BLOCK, (extent.logical + extent.blocks) * BLOCK);
            self.put(extent.physical * BLOCK, &bytes[from as usize..to as usize])?;
        }
        Ok((size, tree, blocks))
    }

    fn file(
        &mut self,
        node: Node,
        (size, layer, content): (u64, usize, ContentId),
        seed: u32,
    ) -> Result<(u64, Map, u64), Ext4Error> {
        let plan = self.plan;
        let path = || plan.tree.path(node);
        let kept = plan.contents.fragments(layer, content);
        let (at, fragments) = kept.map_err(|error| Ext4Error::Content { path: path(), error })?;
        let (extents, tree, blocks) = self.allocate(&runs(fragments), seed)?;
        self.copy(&Source { layer, at, fragments }, &extents, &path)?;
        Ok((size, tree, blocks))
    }

    /// Copies a file's fragments to the blocks that it has.
    fn copy(&mut self, source: &Source<'_>, extents: &[Extent], path: &dyn Fn() -> LayerPath) -> Result<(), Ext4Error> {
        let mut at = source.at;
        let mut extents = extents.iter().peekable();
        for fragment in source.fragments {
            let (mut from, end) = (fragment.offset, fragment.offset + fragment.length);
            while from < end {
                if self.plan.options.cancel.is_cancelled() {
                    return Err(Ext4Error::Cancelled);
                }
                let Some(extent) = extents.peek() else {
                    return Err(full());
                };
                let until = (extent.logical + extent.blocks) * BLOCK;
                if from >= until {
                    extents.next();
                    continue;
                }
                let length = (end.min(until) - from).min(CHUNK);
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(length as usize, 0);
                let read = self.plan.contents.read(source.layer, at, &mut buffer);
                read.map_err(|error| Ext4Error::Content { path: path(), error })?;
                self.put(extent.physical * BLOCK + (from - extent.logical * BLOCK), &buffer)?;
                self.buffer = buffer;
                (from, at) = (from + length, at + length);
            }
        }
        Ok(())
    }

    /// Takes blocks for the runs of a file: where they are, as the inode says it, and how many with those that say it.
    fn allocate(&mut self, runs: &[Run], seed: u32) -> Result<(Vec<Extent>, Map, u64), Ext4Error> {
        let mut all: Vec<Extent> = Vec::with_capacity(runs.len());
        let mut blocks = 0;
        for &(first, count) in runs {
            let (mut logical, end) = (first, first + count);
            while logical < end {
                let (physical, count) = self.allocator.take((end - logical).min(extents::LONGEST)).ok_or_else(full)?;
                all.push(Extent { logical, physical, blocks: count });
                logical += count;
                blocks += count;
            }
        }
        let mut take = || self.allocator.take(1).map(|(block, _)| block);
        let tree = Extents::new(&all, seed, &mut take).ok_or_else(full)?;
        blocks += tree.blocks.len() as u64;
        for (at, bytes) in tree.blocks {
            self.put(at * BLOCK, &bytes)?;
        }
        Ok((all, Map::Extents(tree.root), blocks))
    }

    fn take_one(&mut self) -> Result<u64, Ext4Error> {
        self.allocator.take(1).map(|(block, _)| block).ok_or_else(full)
    }

    /// The journal's inode; its map and its size, which the superblock has, too.
    fn journal(&mut self) -> Result<Option<([u8; 60], u64)>, Ext4Error> {
        let count = self.plan.journal;
        if count == 0 {
            return Ok(None);
        }
        let seed = inode::seed(self.seed, JOURNAL_INODE);
        let (extents, map, blocks) = self.allocate(&[(0, count)], seed)?;
        self.put(extents[0].physical * BLOCK, &journal::superblock(count))?;
        let time = Timestamp { seconds: self.plan.newest.into(), nanoseconds: 0 };
        let inode = Inode {
            mode: inode::FILE | 0o600,
            uid: 0,
            gid: 0,
            links: 1,
            size: count * BLOCK,
            mtime: time,
            atime: time,
            blocks,
            map,
            xattr_block: 0,
            xattrs: Vec::new(),
        };
        self.inode(JOURNAL_INODE, &inode.encode(seed))?;
        match inode.map {
            Map::Extents(map) | Map::Plain(map) => Ok(Some((map, inode.size))),
        }
    }

    /// Puts an inode into the table. They come in the order of their numbers.
    fn inode(&mut self, number: u32, bytes: &[u8; INODE_BYTES]) -> Result<(), Ext4Error> {
        let at = self.plan.geometry.inode(number);
        let (block, offset) = (at / BLOCK, (at % BLOCK) as usize);
        if self.table.block != Some(block) {
            self.flush_table()?;
            self.table.block = Some(block);
        }
        self.table.bytes.resize(offset, 0);
        self.table.bytes.extend_from_slice(bytes);
        self.last_inode = self.last_inode.max(number);
        Ok(())
    }

    fn flush_table(&mut self) -> Result<(), Ext4Error> {
        let bytes = std::mem::take(&mut self.table.bytes);
        match self.table.block.take() {
            Some(block) => self.put(block * BLOCK, &bytes),
            None => Ok(()),
        }
    }

    /// The bitmaps, the descriptors and the superblock with their copies.
    fn finish(&mut self, journal: Option<([u8; 60], u64)>) -> Result<(), Ext4Error> {
        let plan = self.plan;
        let geometry = &plan.geometry;
        let mut descriptors = Vec::new();
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for number in 0..geometry.groups {
            let group = self.group(number)?;
            free_blocks += group.free_blocks;
            free_inodes += group.free_inodes;
            descriptors.extend(group.encode(number, geometry, self.seed));
        }
        let superblock =
            Superblock { geometry, options: plan.options, free_blocks, free_inodes, seconds: plan.newest, journal };
        for group in (0..geometry.groups).filter(|&group| Geometry::has_superblock(group)) {
            let start = group * GROUP * BLOCK;
            let offset = if group == 0 { superblock::OFFSET } else { 0 };
            self.put(start + offset, &superblock.encode(group))?;
            self.put(start + BLOCK, &descriptors)?;
        }
        Ok(())
    }

    /// The bitmaps of a group, which are only written where something is in use.
    fn group(&mut self, number: u64) -> Result<Group, Ext4Error> {
        let geometry = &self.plan.geometry;
        let (start, end) = (number * GROUP, geometry.end(number));
        let tables = geometry.first_free(number) - start;
        let used = self.allocator.used(number);
        let inodes = geometry.inodes_per_group;
        let used_inodes = u64::from(self.last_inode).saturating_sub(number * inodes).min(inodes);
        let is_last = number + 1 == geometry.groups;
        let mut group = Group {
            free_blocks: end - start - tables - used,
            free_inodes: inodes - used_inodes,
            directories: self.directories[number as usize],
            untouched_inodes: inodes - used_inodes,
            block_bitmap: None,
            inode_bitmap: None,
        };
        let bitmaps = geometry.bitmaps(number);
        if used + used_inodes > 0 || is_last {
            let mut bits = vec![0; BLOCK as usize];
            set(&mut bits, 0, tables + used);
            set(&mut bits, end - start, GROUP);
            group.block_bitmap = Some(crc32c(self.seed, &bits));
            self.put(bitmaps * BLOCK, &bits)?;
        }
        if used_inodes > 0 {
            let mut bits = vec![0; BLOCK as usize];
            set(&mut bits, 0, used_inodes);
            set(&mut bits, inodes, GROUP);
            group.inode_bitmap = Some(crc32c(self.seed, &bits[..(inodes / 8) as usize]));
            self.put((bitmaps + 1) * BLOCK, &bits)?;
        }
        Ok(group)
    }
}

/// Sets bits from one to before another.
fn set(bits: &mut [u8], from: u64, to: u64) {
    for bit in from..to {
        bits[(bit / 8) as usize] |= 1 << (bit % 8);
    }
}

/// The plan counts all blocks: it cannot happen.
fn full() -> Ext4Error {
    Ext4Error::Write(io::Error::other("more blocks are needed than were planned"))
}
