//! From a plan to the bytes of the image.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use super::contents::Piece;
use super::directory;
use super::error::ErofsError;
use super::file::{CHUNK_ADDRESS, File, Run, What};
use super::inode::{self, DataLayout, Inode};
use super::layout::Data;
use super::plan::{Body, Facts, Node, Plan, file};
use super::stream::Stream;
use super::superblock::{self, Superblock};
use crate::core::record::ContentId;
use crate::parallel;

/// Bytes of contents that are read at once.
const CHUNK: u64 = 256 << 10;

impl Plan<'_, '_> {
    /// Writes the image, from its first byte to its last.
    ///
    /// # Errors
    /// Contents that cannot be read, or an output that cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), ErofsError> {
        let block = self.options.block_size.bytes();
        let mut writer = Writer::new(self, Stream::new(out, block));
        writer.beginning().map_err(ErofsError::Write)?;
        writer.inodes()?;
        writer.shared_xattrs().map_err(ErofsError::Write)?;
        writer.data()?;
        writer.out.finish().map_err(ErofsError::Write)
    }
}

struct Writer<'p, 'a, 'r, 'w> {
    plan: &'p Plan<'a, 'r>,
    out: Stream<'w>,
    pieces: Vec<Piece>,
}

/// Slots that are encoded at once, in memory: 256 KiB of the image.
const SLOTS_OF_PART: u32 = (256 << 10) / inode::SLOT as u32;

/// How many parts each thread encodes while those before are written.
const PARTS_OF_THREAD: usize = 2;

/// What failed: reading contents, or writing.
enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl<'p, 'a, 'r, 'w> Writer<'p, 'a, 'r, 'w> {
    fn new(plan: &'p Plan<'a, 'r>, out: Stream<'w>) -> Self {
        Self { plan, out, pieces: Vec::new() }
    }

    fn beginning(&mut self) -> io::Result<()> {
        let (plan, layout) = (self.plan, &self.plan.layout);
        let superblock = Superblock {
            block_bits: plan.options.block_size.bits(),
            root: plan.tree.nodes[0].slot as u16,
            inodes: plan.tree.nodes.len() as u64,
            time: (layout.time.0.unsigned_abs(), layout.time.1),
            blocks: layout.blocks,
            metadata: layout.metadata,
            xattrs: layout.xattr_block,
            uuid: plan.options.uuid,
            has_chunks: layout.has_chunks,
            devices: layout.devices.len() as u16,
        };
        self.out.zeros_up_to(superblock::OFFSET)?;
        self.out.put(&superblock.to_bytes())?;
        for (device, &(blocks, start)) in plan.options.devices.iter().zip(&layout.devices) {
            self.out.put(&superblock::slot(device, blocks, start))?;
        }
        Ok(())
    }

    /// The inodes in the order of their slots, with what is right behind them.
    fn inodes(&mut self) -> Result<(), ErofsError> {
        let plan = self.plan;
        let slot = |&index: &u32| plan.tree.nodes[index as usize].slot;
        let mut order: Vec<u32> = (0..plan.tree.nodes.len() as u32).collect();
        order.sort_unstable_by_key(slot);
        let parts: Vec<&[u32]> = order.chunk_by(|a, b| slot(a) / SLOTS_OF_PART == slot(b) / SLOTS_OF_PART).collect();
        let jobs = plan.options.jobs.get();
        let mut waves = parts.chunks(jobs.saturating_mul(PARTS_OF_THREAD));
        let mut encoded = plan.parts(waves.next().unwrap_or_default())?;
        for wave in waves {
            let (next, written) = match jobs {
                1 => (plan.parts(wave), self.put_parts(&encoded)),
                _ => parallel::both(|| plan.parts(wave), || self.put_parts(&encoded)),
            };
            written?;
            encoded = next?;
        }
        self.put_parts(&encoded)?;
        self.out.end_block().map_err(ErofsError::Write)
    }

    fn put_parts(&mut self, encoded: &[(u64, Vec<u8>)]) -> Result<(), ErofsError> {
        for (start, bytes) in encoded {
            self.out.zeros_up_to(*start).and_then(|()| self.out.put(bytes)).map_err(ErofsError::Write)?;
        }
        Ok(())
    }

    /// An inode, its attributes, and what else is right behind it.
    fn inode(&mut self, node: &Node, index: u32) -> Result<(), Failure> {
        let plan = self.plan;
        let block = plan.options.block_size.bytes();
        let facts = plan.tree.facts(node);
        let mut xattrs = Vec::new();
        if node.has_xattrs {
            plan.layout.xattrs.write(&facts.encoded(plan.options, &mut |_| {}), &mut xattrs);
        }
        match facts.body {
            Body::Directory => {
                let names = plan.tree.names(node);
                let spread = directory::Spread::of(names.iter().map(|(name, _)| name.len()), block);
                self.head(node, index, &facts, &xattrs, spread.size(block), 0)?;
                if node.data == Data::Inline {
                    directory::blocks(
                        plan.entries(&names),
                        block,
                        |bytes, is_last| {
                            if is_last { self.out.put(bytes) } else { Ok(()) }
                        },
                    )?;
                }
            }
            Body::Symlink(target) => {
                self.head(node, index, &facts, &xattrs, target.len() as u64, 0)?;
                if node.data == Data::Inline {
                    self.out.put(&target[target.len() - target.len() % block as usize..])?;
                }
            }
            Body::File { size, layer, content } => {
                let mut pieces = std::mem::take(&mut self.pieces);
                let bits = plan.options.block_size.bits();
                let found = file(plan.contents, (size, layer, content), &mut pieces, bits).map_err(Failure::Read)?;
                let union = if node.data == Data::Flat { self.flat(found) } else { 0 };
                self.head(node, index, &facts, &xattrs, size, union)?;
                match node.data {
                    Data::Inline => self.range(&pieces, (layer, content), size - size % block, size)?,
                    Data::Chunks(bits) => {
                        let carried = plan.layout.data_block + node.block;
                        chunk_addresses(&mut self.out, found, bits.into(), carried)?;
                    }
                    _ => {}
                }
                self.pieces = pieces;
            }
            Body::Device(number) => self.head(node, index, &facts, &xattrs, 0, number)?,
            Body::Empty | Body::Fifo => self.head(node, index, &facts, &xattrs, 0, 0)?,
        }
        Ok(())
    }

    /// An inode and its attributes. `other` is the address of data that are not in the image, or the number of a device.
    fn head(
        &mut self,
        node: &Node,
        index: u32,
        facts: &Facts<'_>,
        xattrs: &[u8],
        size: u64,
        other: u32,
    ) -> io::Result<()> {
        let (layout, union) = match node.data {
            Data::None | Data::Flat => (DataLayout::Plain, other),
            Data::Blocks => (DataLayout::Plain, self.plan.layout.data_block + node.block),
            Data::Inline => (DataLayout::Inline, self.plan.layout.data_block + node.block),
            Data::Chunks(bits) => (DataLayout::Chunks, inode::CHUNKS_WITH_DEVICES | u32::from(bits)),
        };
        let inode = Inode {
            compact: node.compact,
            layout,
            xattr_bytes: xattrs.len(),
            mode: facts.mode,
            size,
            union,
            number: index + 1,
            uid: facts.attributes.uid,
            gid: facts.attributes.gid,
            time: facts.time(),
            links: node.links,
        };
        let bytes = self.out.buffer()?;
        inode.write(bytes);
        bytes.extend_from_slice(xattrs);
        Ok(())
    }

    /// The address of a file that is in one piece in a device.
    fn flat(&self, file: File<'_>) -> u32 {
        match file.runs(0).next().map(|run| run.what) {
            Some(What::Device(device, block)) => self.plan.layout.devices[usize::from(device) - 1].1 + block as u32,
            _ => 0,
        }
    }

    fn shared_xattrs(&mut self) -> io::Result<()> {
        for attribute in self.plan.layout.xattrs.area() {
            self.out.put(attribute)?;
        }
        self.out.end_block()
    }

    /// What lies in blocks, in the order of the inodes.
    fn data(&mut self) -> Result<(), ErofsError> {
        let plan = self.plan;
        for (count, node) in plan.tree.nodes.iter().enumerate() {
            self.check_cancelled(count)?;
            if matches!(node.data, Data::Blocks | Data::Inline | Data::Chunks(_)) {
                self.blocks_of(node).map_err(|failure| self.failed(failure, node))?;
            }
        }
        Ok(())
    }

    fn blocks_of(&mut self, node: &Node) -> Result<(), Failure> {
        let plan = self.plan;
        let (block, bits) = (plan.options.block_size.bytes(), plan.options.block_size.bits());
        let is_inline = node.data == Data::Inline;
        match plan.tree.facts(node).body {
            Body::Directory => {
                let names = plan.tree.names(node);
                directory::blocks(plan.entries(&names), block, |bytes, is_last| {
                    if is_last && is_inline {
                        return Ok(());
                    }
                    self.out.put(bytes)?;
                    self.out.end_block()
                })?;
            }
            Body::Symlink(target) => {
                let whole = if is_inline { target.len() - target.len() % block as usize } else { target.len() };
                self.out.put(&target[..whole])?;
                self.out.end_block()?;
            }
            Body::File { size, layer, content } => {
                let mut pieces = std::mem::take(&mut self.pieces);
                let found = file(plan.contents, (size, layer, content), &mut pieces, bits).map_err(Failure::Read)?;
                match node.data {
                    Data::Chunks(bits) => {
                        let carried: Vec<Run> =
                            found.runs(bits.into()).filter(|run| run.what == What::Carried).collect();
                        for run in carried {
                            let shift = u32::from(bits) + plan.options.block_size.bits();
                            self.range(&pieces, (layer, content), run.first << shift, (run.end << shift).min(size))?;
                            self.out.end_block()?;
                        }
                    }
                    _ => {
                        let end = if is_inline { size - size % block } else { size };
                        self.range(&pieces, (layer, content), 0, end)?;
                        self.out.end_block()?;
                    }
                }
                self.pieces = pieces;
            }
            Body::Empty | Body::Device(_) | Body::Fifo => {}
        }
        Ok(())
    }

    /// A part of a file that the image carries, with zeros where it has holes.
    fn range(
        &mut self,
        pieces: &[Piece],
        (layer, content): (usize, ContentId),
        from: u64,
        to: u64,
    ) -> Result<(), Failure> {
        let start = self.out.position();
        let begin = pieces.partition_point(|piece| piece.end() <= from);
        for piece in pieces[begin..].iter().take_while(|piece| piece.logical < to) {
            let (mut at, end) = (piece.logical.max(from), piece.end().min(to));
            self.out.zeros_up_to(start + (at - from))?;
            while at < end {
                let length = (end - at).min(CHUNK) as usize;
                let buffer = self.out.buffer()?;
                let filled = buffer.len();
                buffer.resize(filled + length, 0);
                let offset = piece.offset + (at - piece.logical);
                let read = self.plan.contents.read(layer, content, offset, &mut buffer[filled..]);
                read.map_err(Failure::Read)?;
                at += length as u64;
                if self.plan.options.cancel.is_cancelled() {
                    return Err(Failure::Write(io::ErrorKind::Interrupted.into()));
                }
            }
        }
        Ok(self.out.zeros_up_to(start + (to - from))?)
    }

    fn check_cancelled(&self, count: usize) -> Result<(), ErofsError> {
        let is_time = count.is_multiple_of(1024);
        if is_time && self.plan.options.cancel.is_cancelled() { Err(ErofsError::Cancelled) } else { Ok(()) }
    }

    fn failed(&self, failure: Failure, node: &Node) -> ErofsError {
        match failure {
            _ if self.plan.options.cancel.is_cancelled() => ErofsError::Cancelled,
            Failure::Read(error) => ErofsError::Content { path: self.plan.tree.path(node), error },
            Failure::Write(error) => ErofsError::Write(error),
        }
    }
}

/// The addresses of a file's chunks. What the image carries lies from block `carried` on.
fn chunk_addresses(out: &mut Stream<'_>, file: File<'_>, bits: u32, mut carried: u32) -> io::Result<()> {
    // It is behind the inode in any case.
    out.zeros_up_to(out.position().next_multiple_of(CHUNK_ADDRESS))?;
    for run in file.runs(bits) {
        let (device, mut next) = match run.what {
            What::Hole => (0, u32::MAX),
            What::Carried => (0, carried),
            What::Device(device, first) => (device, first as u32),
        };
        if run.what == What::Carried {
            carried += file.blocks_of(run, bits) as u32;
        }
        for _ in run.first..run.end {
            let bytes = out.buffer()?;
            // The high half of an address, which is for 48 bits, is zero, of a hole, too.
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&device.to_le_bytes());
            bytes.extend_from_slice(&next.to_le_bytes());
            if run.what != What::Hole {
                next = next.wrapping_add(1 << bits);
            }
        }
    }
    Ok(())
}

impl Plan<'_, '_> {
    /// So many parts, encoded at the same time.
    fn parts(&self, parts: &[&[u32]]) -> Result<Vec<(u64, Vec<u8>)>, ErofsError> {
        let numbers: Vec<usize> = (0..parts.len()).collect();
        let jobs = self.options.jobs.get();
        let encoded = parallel::each(&numbers, jobs, &AtomicBool::new(false), &|number| self.part(parts[number]));
        parallel::all(encoded, || ErofsError::Cancelled, |error| matches!(error, ErofsError::Cancelled))
    }

    /// Some inodes that lie behind one another, and where in the image the first begins.
    fn part(&self, order: &[u32]) -> Result<(u64, Vec<u8>), ErofsError> {
        let block = self.options.block_size.bytes();
        let area = u64::from(self.layout.metadata) * block;
        let place = |index: u32| area + u64::from(self.tree.nodes[index as usize].slot) * inode::SLOT;
        let start = order.first().map_or(area, |&first| place(first));
        let mut bytes = Vec::with_capacity(SLOTS_OF_PART as usize * inode::SLOT as usize + block as usize);
        let mut writer = Writer::new(self, Stream::of_part(&mut bytes, block, start));
        for (count, &index) in order.iter().enumerate() {
            writer.check_cancelled(count)?;
            let node = &self.tree.nodes[index as usize];
            writer.out.zeros_up_to(place(index)).map_err(ErofsError::Write)?;
            writer.inode(node, index).map_err(|failure| writer.failed(failure, node))?;
        }
        writer.out.finish_part().map_err(ErofsError::Write)?;
        Ok((start, bytes))
    }

    fn entries<'n>(&'n self, names: &'n [(&'n [u8], u32)]) -> impl Iterator<Item = directory::Entry<'n>> {
        names.iter().map(|&(name, node)| {
            let node = &self.tree.nodes[node as usize];
            let file_type = inode::file_type(node.kind.into());
            directory::Entry { name, inode: node.slot.into(), file_type }
        })
    }
}
