//! Where everything lies: inodes in slots, and behind them, in blocks, shared attributes, directories, long link targets and the contents
//! that the image carries.

use super::contents::{Contents, Piece};
use super::directory::Spread;
use super::error::ErofsError;
use super::file::{Address, CHUNK_ADDRESS, MOST_CHUNKS, Problem};
use super::inode;
use super::options::Options;
use super::plan::{Body, Facts, Node, Tell, Tree, file};
use super::slots::Slots;
use super::superblock;
use super::times::time_of;
use super::xattr::{self, SharedXattrs};

/// More devices it writes over its own memory (erofs-utils 1.8.6 and 1.9.4, `blobfd` in include/erofs/internal.h).
const MOST_DEVICES_OF_EROFSFUSE: usize = 256;

/// Where an inode's data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    None,
    /// In blocks of the image.
    Blocks,
    /// The same, but for the end, which is behind the inode.
    Inline,
    /// In one piece of a device.
    Flat,
    /// In chunks of so many blocks, as a logarithm.
    Chunks(u8),
}

/// Where everything is that is not an inode's.
#[derive(Debug)]
pub(super) struct Layout {
    /// The time that compact inodes have.
    pub(super) time: (i64, u32),
    /// The block that inodes are counted from.
    pub(super) metadata: u32,
    pub(super) xattrs: SharedXattrs,
    /// The block of the shared attributes.
    pub(super) xattr_block: u32,
    /// The block that data are counted from.
    pub(super) data_block: u32,
    /// Blocks of the image.
    pub(super) blocks: u32,
    /// Of each device, how many blocks it has, and where it begins in the address space that all share.
    pub(super) devices: Vec<(u32, u32)>,
    pub(super) has_chunks: bool,
}

impl Layout {
    /// Gives each node its place.
    pub(super) fn new(
        tree: &mut Tree<'_, '_>,
        contents: &dyn Contents,
        options: &Options,
        lost: Tell<'_>,
    ) -> Result<Self, ErofsError> {
        let count = options.devices.len();
        let limit = if options.for_erofsfuse { MOST_DEVICES_OF_EROFSFUSE } else { u16::MAX.into() };
        if count > limit {
            return Err(ErofsError::TooManyDevices { devices: count, limit });
        }
        let block = options.block_size.bytes();
        let table_end = superblock::table_end(count);
        let metadata = table_end / block;
        // Number 0 is no number for an inode.
        let first = (table_end - metadata * block).div_ceil(inode::SLOT).max(1);
        let mut layout = Self {
            time: tree.time,
            metadata: metadata as u32,
            xattrs: SharedXattrs::default(),
            xattr_block: 0,
            data_block: 0,
            blocks: 0,
            devices: Vec::new(),
            has_chunks: false,
        };
        layout.count_xattrs(tree, options, lost)?;
        if options.for_erofsfuse {
            tell_times(tree, lost);
        }
        let mut placing = Placing { slots: Slots::new(block, first), data: 0, pieces: Vec::new(), contents, options };
        for index in 0..tree.nodes.len() {
            if index.is_multiple_of(1024) && options.cancel.is_cancelled() {
                return Err(ErofsError::Cancelled);
            }
            let placed = placing.place(tree, tree.nodes[index], &mut layout)?;
            tree.nodes[index] = placed;
        }
        layout.xattrs.forget_counts();
        let end = metadata + (placing.slots.end() * inode::SLOT).div_ceil(block);
        let shared = layout.xattrs.bytes().div_ceil(block);
        layout.close(end, shared, placing.data, options)?;
        Ok(layout)
    }

    /// Counts which attributes several inodes have, and what cannot be kept of them.
    fn count_xattrs(&mut self, tree: &Tree<'_, '_>, options: &Options, lost: Tell<'_>) -> Result<(), ErofsError> {
        for node in tree.nodes.iter().filter(|node| node.has_xattrs) {
            let facts = tree.facts(node);
            let mut tell = |what: &super::Lost<'_>| lost(what, &|| tree.path(node));
            self.xattrs.count(&facts.encoded(options, &mut tell));
        }
        if options.cancel.is_cancelled() { Err(ErofsError::Cancelled) } else { Ok(()) }
    }

    /// Lays the areas behind one another, and the devices behind the image.
    fn close(&mut self, end: u64, shared: u64, data: u64, options: &Options) -> Result<(), ErofsError> {
        let block = options.block_size.bytes();
        // The highest number stands for a hole.
        let limit = u64::from(u32::MAX) - 1;
        let mut next = end + shared + data;
        let starts: Vec<(u64, u64)> = options
            .devices
            .iter()
            .map(|device| {
                let blocks = device.bytes.div_ceil(block);
                let start = next;
                next = next.saturating_add(blocks);
                (blocks, start)
            })
            .collect();
        if next > limit {
            return Err(ErofsError::TooLarge { bytes: next.saturating_mul(block), block, limit: limit * block });
        }
        self.xattr_block = end as u32;
        self.data_block = (end + shared) as u32;
        self.blocks = (end + shared + data) as u32;
        self.devices = starts.into_iter().map(|(blocks, start)| (blocks as u32, start as u32)).collect();
        Ok(())
    }
}

/// Tells of fractions of a second.
fn tell_times(tree: &Tree<'_, '_>, lost: Tell<'_>) {
    for node in &tree.nodes {
        if tree.attributes(node).is_some_and(|attributes| attributes.mtime.nanoseconds != 0) {
            lost(&super::Lost::Time, &|| tree.path(node));
        }
    }
}

impl Facts<'_> {
    /// Its attributes, as they are written.
    pub(super) fn encoded(&self, options: &Options, lost: &mut dyn FnMut(&super::Lost<'_>)) -> Vec<Box<[u8]>> {
        xattr::encoded(&self.attributes, self.mode, self.own(), options.shape, options.selinux, lost)
    }

    pub(super) fn time(&self) -> (i64, u32) {
        time_of(&self.attributes)
    }
}

/// At work.
struct Placing<'a> {
    slots: Slots,
    /// Blocks of data so far.
    data: u64,
    pieces: Vec<Piece>,
    contents: &'a dyn Contents,
    options: &'a Options,
}

impl Placing<'_> {
    fn place(&mut self, tree: &Tree<'_, '_>, mut node: Node, layout: &mut Layout) -> Result<Node, ErofsError> {
        let block = self.options.block_size.bytes();
        let facts = tree.facts(&node);
        let size = match facts.body {
            Body::Directory => Spread::of(tree.names(&node).iter().map(|(name, _)| name.len()), block).size(block),
            Body::File { size, .. } => size,
            Body::Symlink(target) => target.len() as u64,
            Body::Empty | Body::Device(_) | Body::Fifo => 0,
        };
        node.compact = facts.fits_compact(size, node.links, layout.time);
        let mut head = inode::size_of(node.compact);
        if node.has_xattrs {
            let encoded = facts.encoded(self.options, &mut |_| {});
            let placed = layout.xattrs.place(&encoded, (block - head) as usize);
            head += placed.map_err(|bytes| ErofsError::Xattrs {
                path: tree.path(&node),
                bytes,
                limit: xattr::MOST_BYTES,
            })? as u64;
        }
        if self.data > u64::from(u32::MAX) {
            let bytes = self.data.saturating_mul(block);
            return Err(ErofsError::TooLarge { bytes, block, limit: u64::from(u32::MAX) * block });
        }
        node.block = self.data as u32;
        let behind = match facts.body {
            Body::Directory | Body::Symlink(_) => self.own_data(&mut node, head, size),
            Body::File { size, layer, content } => {
                let mut pieces = std::mem::take(&mut self.pieces);
                let found = file(self.contents, (size, layer, content), &mut pieces, self.options.block_size.bits())
                    .map_err(|error| ErofsError::Content { path: tree.path(&node), error })?;
                let address = found.address(self.options);
                let behind = match address.map_err(|problem| self.refused(problem, tree, &node))? {
                    Address::Empty => 0,
                    Address::Flat => {
                        node.data = Data::Flat;
                        0
                    }
                    Address::Carried => self.own_data(&mut node, head, size),
                    Address::Chunks(bits) => {
                        node.data = Data::Chunks(bits as u8);
                        layout.has_chunks = true;
                        self.data += found.carried_blocks(bits);
                        (head.next_multiple_of(CHUNK_ADDRESS) - head) + CHUNK_ADDRESS * found.chunks(bits)
                    }
                };
                self.pieces = pieces;
                behind
            }
            Body::Empty | Body::Device(_) | Body::Fifo => 0,
        };
        let slot = self.slots.take(head + behind);
        node.slot = u32::try_from(slot)
            .ok()
            .filter(|_| self.slots.end() < u64::from(u32::MAX))
            .ok_or(ErofsError::TooManyInodes { limit: u64::from(u32::MAX) * inode::SLOT })?;
        Ok(node)
    }

    /// Puts data into blocks, and their end behind the inode where it fits there. Returns how much that is.
    fn own_data(&mut self, node: &mut Node, head: u64, size: u64) -> u64 {
        let block = self.options.block_size.bytes();
        let (blocks, tail) = (size / block, size % block);
        if tail > 0 && head + tail <= block {
            node.data = Data::Inline;
            self.data += blocks;
            return tail;
        }
        node.data = if size == 0 { Data::None } else { Data::Blocks };
        self.data += size.div_ceil(block);
        0
    }

    fn refused(&self, problem: Problem, tree: &Tree<'_, '_>, node: &Node) -> ErofsError {
        let path = tree.path(node);
        match problem {
            Problem::Unaligned(Piece { logical, device, offset, .. }) => {
                ErofsError::Unaligned { path, logical, device, offset, block: self.options.block_size.bytes() }
            }
            Problem::TooFragmented(chunks) => ErofsError::TooFragmented { path, chunks, limit: MOST_CHUNKS },
            Problem::Pieces(problem) => ErofsError::Pieces { path, problem },
        }
    }
}

impl Facts<'_> {
    /// Whether 32 bytes are enough.
    fn fits_compact(&self, size: u64, links: u32, time: (i64, u32)) -> bool {
        let small = |number: u32| number <= u16::MAX.into();
        small(self.attributes.uid)
            && small(self.attributes.gid)
            && small(links)
            && size <= u32::MAX.into()
            && (self.is_whiteout || self.time() == time)
    }
}
