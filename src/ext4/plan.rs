//! How large an image is: every block that it needs is counted before one is written.

use super::contents::Contents;
use super::error::{Ext4Error, Lost};
use super::geometry::Geometry;
use super::inode::{self, FIRST_INODE, SHORT_TARGET};
use super::options::{Options, Size};
use super::tree::{Body, Node, Tell, Tree};
use super::xattr::Xattrs;
use super::{BLOCK, directory, extents, journal};
use crate::core::record::LayerPath;
use crate::core::stack::{Difference, Stack};
use crate::core::tar::Fragment;

/// Names and targets that Linux knows.
const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = BLOCK as usize - 1;
/// Blocks that can be addressed: those of a file are counted in 32 bits, and so are those of an image here.
const MOST_BLOCKS: u64 = 1 << 32;
/// What is free if nobody says how much is to be: at least so many blocks.
const LEAST_FREE: u64 = (64 << 20) / BLOCK;
/// Blocks that Linux does not give to files (ext4_calculate_resv_clusters): a fiftieth, at most so many.
const MOST_RESERVED: u64 = 4096;
const BLOCKS_PER_MIB: u64 = (1 << 20) / BLOCK;

/// An image that is ready to be written.
#[derive(Debug)]
pub struct Plan<'a, 'r> {
    pub(super) tree: Tree<'a, 'r>,
    pub(super) contents: &'a dyn Contents,
    pub(super) options: &'a Options,
    pub(super) geometry: Geometry,
    /// Blocks of the journal; none in a small file system.
    pub(super) journal: u64,
    /// The newest time of a file: when the file system was made, as it says.
    pub(super) newest: u32,
}

/// Blocks that follow one another in a file, and are no hole: the first, and how many.
pub(super) type Run = (u64, u64);

impl<'a, 'r> Plan<'a, 'r> {
    /// Plans an image of what a stack shows, [`Stack::whole`]. What cannot be in an image is met here, and not when it is written.
    ///
    /// `lost` is told what the image does not hold of which file (rule A4).
    ///
    /// # Errors
    /// What cannot be in an image, and a size that is too small.
    pub fn new(
        stack: &'a Stack<'r>,
        difference: &'a Difference,
        contents: &'a dyn Contents,
        options: &'a Options,
        lost: &mut dyn FnMut(&Lost<'_>, &dyn Fn() -> LayerPath),
    ) -> Result<Self, Ext4Error> {
        let tree = Tree::new(stack, difference, lost);
        let mut needed = 0;
        let mut newest = 0;
        for &node in &tree.nodes {
            if options.cancel.is_cancelled() {
                return Err(Ext4Error::Cancelled);
            }
            let (blocks, seconds) = measure(&tree, node, contents, options, lost)?;
            needed += blocks;
            newest = seconds.max(newest);
        }
        let inodes = u64::from(FIRST_INODE) - 1 + tree.nodes.len() as u64;
        if inodes >= u64::from(u32::MAX) {
            return Err(Ext4Error::TooManyInodes(tree.nodes.len() as u64));
        }
        let (geometry, journal) = sized(needed, inodes, options.size)?;
        Ok(Self { tree, contents, options, geometry, journal, newest: newest.clamp(0, u32::MAX.into()) as u32 })
    }

    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        match self.options.size {
            Size::Total(bytes) => bytes,
            Size::Automatic | Size::Free(_) => self.geometry.blocks * BLOCK,
        }
    }
}

/// How many blocks a file takes at most, and the time of its last change.
fn measure(
    tree: &Tree<'_, '_>,
    node: Node,
    contents: &dyn Contents,
    options: &Options,
    tell: Tell<'_>,
) -> Result<(u64, i64), Ext4Error> {
    let path = || tree.path(node);
    let (body, mode, attributes) = tree.facts(node);
    let times = [attributes.mtime, attributes.atime];
    if times.iter().any(|&time| inode::nearest(time) != time) {
        tell(&Lost::Time, &path);
    }
    let xattrs = Xattrs::of(&attributes, mode, options.selinux, &mut |lost| tell(lost, &path));
    let too_long = |what, length, limit| Ext4Error::TooLong { path: path(), what, length, limit };
    let blocks = match body {
        Body::Directory => {
            if let Some(long) = tree.names(node).map(|name| name.name.len()).find(|&length| length > LONGEST_NAME) {
                return Err(too_long("it has a name", long, LONGEST_NAME));
            }
            let blocks = directory::blocks(tree.names(node));
            blocks + extents::most_blocks(1, blocks)
        }
        Body::File { size, .. } if size.div_ceil(BLOCK) >= MOST_BLOCKS => {
            return Err(Ext4Error::FileTooLarge { path: path(), size });
        }
        Body::File { layer, content, .. } => {
            let fragments = contents.fragments(layer, content);
            let (_, fragments) = fragments.map_err(|error| Ext4Error::Content { path: path(), error })?;
            let runs = runs(fragments);
            let blocks = runs.iter().map(|(_, count)| count).sum();
            blocks + extents::most_blocks(runs.len() as u64, blocks)
        }
        Body::Symlink(target) if target.len() > LONGEST_TARGET => {
            return Err(too_long("a link's target", target.len(), LONGEST_TARGET));
        }
        Body::Symlink(target) => u64::from(target.len() > SHORT_TARGET),
        Body::Device(..) | Body::Fifo => 0,
    };
    Ok((blocks + u64::from(xattrs.has_block()), attributes.mtime.seconds))
}

/// The runs of blocks that hold a file's fragments.
pub(super) fn runs(fragments: &[Fragment]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for fragment in fragments.iter().filter(|fragment| fragment.length > 0) {
        let (first, end) = (fragment.offset / BLOCK, (fragment.offset + fragment.length).div_ceil(BLOCK));
        match runs.last_mut() {
            Some((start, count)) if first <= *start + *count => *count = end.max(*start + *count) - *start,
            _ => runs.push((first, end - first)),
        }
    }
    runs
}

/// The file system with room for so many blocks of files and so many inodes, and its journal.
fn sized(needed: u64, inodes: u64, size: Size) -> Result<(Geometry, u64), Ext4Error> {
    let fitting = |free: u64, grain: u64| {
        let mut blocks = (needed + free).next_multiple_of(grain);
        while blocks < MOST_BLOCKS {
            let journal = journal::blocks(blocks);
            // What Linux keeps back of what is free, so that delayed writes find room.
            let reserve = if free > 0 { (blocks / 50).min(MOST_RESERVED) } else { 0 };
            let wanted = needed + journal + free + reserve;
            let missing = match Geometry::new(blocks, inodes) {
                Some(geometry) if geometry.capacity() >= wanted => return Ok((geometry, journal)),
                Some(geometry) => wanted - geometry.capacity(),
                None => inodes / 16,
            };
            blocks = (blocks + missing.max(1)).next_multiple_of(grain);
        }
        Err(Ext4Error::TooLarge(blocks.saturating_mul(BLOCK)))
    };
    match size {
        Size::Automatic => fitting((needed / 4).max(LEAST_FREE), BLOCKS_PER_MIB),
        Size::Free(bytes) => fitting(bytes.div_ceil(BLOCK), BLOCKS_PER_MIB),
        Size::Total(bytes) if bytes / BLOCK >= MOST_BLOCKS => Err(Ext4Error::TooLarge(bytes)),
        Size::Total(bytes) => {
            let journal = journal::blocks(bytes / BLOCK);
            match Geometry::new(bytes / BLOCK, inodes) {
                Some(geometry) if geometry.capacity() >= needed + journal => Ok((geometry, journal)),
                _ => {
                    let (least, _) = fitting(0, BLOCKS_PER_MIB)?;
                    Err(Ext4Error::TooSmall { needed: least.blocks * BLOCK, size: bytes })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_blocks_that_follow_one_another() {
        let runs = |fragments: &[(u64, u64)]| {
            let fragments = fragments.iter().map(|&(offset, length)| Fragment { offset, length });
            runs(&fragments.collect::<Vec<_>>())
        };
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[(0, 1)]), [(0, 1)]);
        assert_eq!(runs(&[(5, 1), (4095, 2), (9000, 0), (12_288, 4096)]), [(0, 2), (3, 1)]);
        assert_eq!(runs(&[(0, 10), (20, 10), (4096, 1)]), [(0, 2)]);
    }

    #[test]
    fn a_size_that_is_named_as_the_least_is_enough() {
        for needed in [1, 100, 5000, 100_000, 3_000_000] {
            for inodes in [12, 5000, 400_000] {
                let Err(Ext4Error::TooSmall { needed: least, .. }) = sized(needed, inodes, Size::Total(4096)) else {
                    panic!("one block is enough for {needed}");
                };
                sized(needed, inodes, Size::Total(least)).unwrap();
                let (geometry, journal) = sized(needed, inodes, Size::Free(500 << 20)).unwrap();
                assert!(geometry.capacity() - needed - journal >= 500 << 8);
                assert!(geometry.inodes() >= inodes);
                sized(needed, inodes, Size::Automatic).unwrap();
            }
        }
    }
}
