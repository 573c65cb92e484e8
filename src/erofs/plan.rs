//! From what a directory must hold to inodes: what each is, how many names it has, and which it is the parent of.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::contents::{Contents, Piece};
use super::error::{ErofsError, Lost};
use super::file::{self, File};
use super::inode;
use super::layout::{Data, Layout};
use super::options::{Options, Shape};
use super::times::{Times, time_of};
use super::xattr;
use crate::core::overlayfs::Attribute;
use crate::core::record::{Attributes, ChangeKind, ContentId, DeviceKind, LayerPath};
use crate::core::stack::{Children, Difference, LayerEntry, Stack, What};

/// An image that is ready to be written: every inode and every block has its place.
#[derive(Debug)]
pub struct Plan<'a, 'r> {
    pub(super) tree: Tree<'a, 'r>,
    pub(super) contents: &'a dyn Contents,
    pub(super) options: &'a Options,
    pub(super) layout: Layout,
}

impl std::fmt::Debug for dyn Contents + '_ {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Contents")
    }
}

/// Tells what an image does not hold of a file. The path is only made if it is asked for.
pub(super) type Tell<'t> = &'t mut dyn FnMut(&Lost<'_>, &dyn Fn() -> LayerPath);

impl<'a, 'r> Plan<'a, 'r> {
    /// Plans an image of what a stack shows, [`Stack::whole`], or of one layer of it. Every limit of the format is met here, and none
    /// when the image is written.
    ///
    /// `lost` is told what the image does not hold of which file (rule A4).
    ///
    /// # Errors
    /// What cannot be in an image; pieces that cannot be those of a file.
    pub fn new(
        stack: &'a Stack<'r>,
        difference: &'a Difference,
        contents: &'a dyn Contents,
        options: &'a Options,
        lost: &mut dyn FnMut(&Lost<'_>, &dyn Fn() -> LayerPath),
    ) -> Result<Self, ErofsError> {
        let mut tree = Tree::new(stack, difference, options.shape, lost);
        let layout = Layout::new(&mut tree, contents, options, lost)?;
        Ok(Self { tree, contents, options, layout })
    }

    /// Inodes of the image.
    pub fn inodes(&self) -> usize {
        self.tree.nodes.len()
    }

    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        u64::from(self.layout.blocks) * self.options.block_size.bytes()
    }
}

/// The inodes and how they hang together.
#[derive(Debug)]
pub(super) struct Tree<'a, 'r> {
    pub(super) stack: &'a Stack<'r>,
    difference: &'a Difference,
    shape: Shape,
    /// The root is the first.
    pub(super) nodes: Vec<Node>,
    /// The node of each entry.
    node_of: Vec<u32>,
    children: Children,
    /// The time that most inodes have.
    pub(super) time: (i64, u32),
}

/// An inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// The first of its entries.
    pub(super) entry: u32,
    /// How many names it has; of a directory, how many lead to it.
    pub(super) links: u32,
    /// Where it lies.
    pub(super) slot: u32,
    /// The first block of its data, counted from where data begin.
    pub(super) block: u32,
    pub(super) data: Data,
    pub(super) compact: bool,
    /// The kind of file, as in a mode.
    pub(super) kind: u16,
    /// Whether it has extended attributes, unless none of them can be kept.
    pub(super) has_xattrs: bool,
    /// Whether devices 0:0 of the image are in it, in a shape where they cannot be devices (rule A6).
    holds_nested: bool,
}

/// What an inode is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'r> {
    Directory,
    File {
        size: u64,
        layer: usize,
        content: ContentId,
    },
    /// A file without content.
    Empty,
    Symlink(&'r [u8]),
    Device(u32),
    Fifo,
}

/// All about an inode but its place.
#[derive(Debug)]
pub(super) struct Facts<'r> {
    /// With the kind of file.
    pub(super) mode: u32,
    pub(super) attributes: Cow<'r, Attributes>,
    pub(super) body: Body<'r>,
    /// What overlayfs must know of it; the first `own_count` are meant.
    own: [Attribute; 3],
    own_count: usize,
    /// A whiteout, of whose attributes nobody is told.
    pub(super) is_whiteout: bool,
}

impl Facts<'_> {
    pub(super) fn own(&self) -> xattr::Own<'_> {
        &self.own[..self.own_count]
    }

    fn add(&mut self, attribute: Attribute) {
        self.own[self.own_count] = attribute;
        self.own_count += 1;
    }
}

impl<'a, 'r> Tree<'a, 'r> {
    fn new(stack: &'a Stack<'r>, difference: &'a Difference, shape: Shape, lost: Tell<'_>) -> Self {
        let entries = difference.entries();
        let mut tree = Self {
            stack,
            difference,
            shape,
            nodes: Vec::with_capacity(entries.len().max(1)),
            node_of: Vec::with_capacity(entries.len()),
            children: Children::of(difference),
            time: (0, 0),
        };
        let mut times = Times::default();
        let mut linked: HashMap<u32, u32> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let at = tree.node(index as u32, entry, &mut linked, &mut times);
            tree.node_of.push(at);
            if index == 0 {
                continue;
            }
            let parent = tree.node_of[entry.parent()] as usize;
            if matches!(entry.what, What::Directory { .. }) {
                tree.nodes[parent].links += 1;
            }
            if tree.is_nested_whiteout(entry) {
                tree.nodes[parent].holds_nested = true;
                tree.nodes[parent].has_xattrs = true;
                lost(&Lost::WhiteoutDevice, &|| stack.path(difference, index));
            }
        }
        if tree.nodes.is_empty() {
            // A layer that changes nothing still has a root.
            tree.nodes.push(Node::new(0, 2, inode::DIRECTORY));
        }
        tree.time =
            times.most(|| tree.nodes.iter().filter_map(|node| tree.attributes(node)).map(|found| time_of(&found)));
        tree
    }

    /// The node of an entry, which is new unless it is another name of a file.
    fn node(&mut self, index: u32, entry: &LayerEntry, linked: &mut HashMap<u32, u32>, times: &mut Times) -> u32 {
        let new = self.nodes.len() as u32;
        let links = match entry.what {
            What::Directory { .. } => 2,
            What::Whiteout => 1,
            What::Leaf(inode) => {
                if self.stack.is_linked(inode) {
                    let at = *linked.entry(inode.number()).or_insert(new);
                    if at != new {
                        self.nodes[at as usize].links += 1;
                        return at;
                    }
                }
                1
            }
        };
        let mut node = Node::new(index, links, self.kind(entry.what));
        if let Some(attributes) = self.attributes_of(entry.what) {
            times.count(time_of(&attributes));
            node.has_xattrs = !attributes.xattrs.is_empty();
        }
        node.has_xattrs |= match entry.what {
            What::Directory { opaque, holds_whiteouts, .. } => {
                self.shape != Shape::Merged && (opaque || holds_whiteouts)
            }
            What::Whiteout => false,
            What::Leaf(_) => self.is_nested_whiteout(entry),
        };
        self.nodes.push(node);
        new
    }

    fn is_nested_whiteout(&self, entry: &LayerEntry) -> bool {
        match entry.what {
            What::Leaf(inode) if self.shape != Shape::Merged => self.stack.origin(inode).1.kind.is_whiteout_device(),
            _ => false,
        }
    }

    /// The first path of a node.
    pub(super) fn path(&self, node: &Node) -> LayerPath {
        self.stack.path(self.difference, node.entry as usize)
    }

    /// The names in a directory, sorted, with the nodes that they lead to; itself and its parent among them.
    pub(super) fn names(&self, node: &Node) -> Vec<(&[u8], u32)> {
        let entries = self.difference.entries();
        let at = node.entry as usize;
        let children = self.children.of_entry(at);
        let mut names: Vec<(&[u8], u32)> = Vec::with_capacity(children.len() + 2);
        for &child in children {
            names.push((self.stack.name(&entries[child as usize]), self.node_of[child as usize]));
        }
        let own = self.node_of.get(at).copied().unwrap_or(0);
        let parent = entries.get(at).map_or(0, |entry| self.node_of[entry.parent()]);
        for (name, node) in [(&b"."[..], own), (b"..", parent)] {
            let place = names.partition_point(|&(other, _)| other < name);
            names.insert(place, (name, node));
        }
        names
    }

    fn kind(&self, what: What) -> u32 {
        match what {
            What::Directory { .. } => inode::DIRECTORY,
            What::Whiteout => inode::CHARACTER_DEVICE,
            What::Leaf(id) => match &self.stack.origin(id).1.kind {
                ChangeKind::Symlink { .. } => inode::SYMLINK,
                ChangeKind::Fifo(_) => inode::FIFO,
                kind @ ChangeKind::Device { .. } if kind.is_whiteout_device() && self.shape != Shape::Merged => {
                    inode::FILE
                }
                ChangeKind::Device { kind: DeviceKind::Character, .. } => inode::CHARACTER_DEVICE,
                ChangeKind::Device { kind: DeviceKind::Block, .. } => inode::BLOCK_DEVICE,
                _ => inode::FILE,
            },
        }
    }

    /// The attributes of a node; a whiteout has none.
    pub(super) fn attributes(&self, node: &Node) -> Option<Cow<'r, Attributes>> {
        match self.difference.entries().get(node.entry as usize) {
            None => Some(Cow::Owned(Attributes::of_unnamed_directory())),
            Some(entry) => self.attributes_of(entry.what),
        }
    }

    fn attributes_of(&self, what: What) -> Option<Cow<'r, Attributes>> {
        let unnamed = || Cow::Owned(Attributes::of_unnamed_directory());
        match what {
            What::Whiteout => None,
            What::Directory { attributes, .. } => Some(self.stack.directory_attributes(attributes)),
            What::Leaf(id) => Some(self.stack.origin(id).1.kind.attributes().map_or_else(unnamed, Cow::Borrowed)),
        }
    }

    /// All about a node.
    pub(super) fn facts(&self, node: &Node) -> Facts<'r> {
        let attributes = self.attributes(node);
        let mut facts = Facts {
            mode: node.kind.into(),
            is_whiteout: attributes.is_none(),
            attributes: attributes.unwrap_or_else(|| Cow::Owned(Attributes::of_unnamed_directory())),
            body: Body::Directory,
            own: [Attribute::Opaque; 3],
            own_count: 0,
        };
        match self.difference.entries().get(node.entry as usize).map(|entry| entry.what) {
            Some(What::Whiteout) => {
                facts.body = Body::Device(0);
                return facts;
            }
            Some(What::Directory { opaque, holds_whiteouts, .. }) if self.shape != Shape::Merged => {
                let own = [
                    (opaque, Attribute::Opaque),
                    (holds_whiteouts, Attribute::HoldsWhiteouts),
                    (node.holds_nested, Attribute::HoldsNestedWhiteouts),
                ];
                own.into_iter().filter(|(is, _)| *is).for_each(|(_, attribute)| facts.add(attribute));
            }
            None | Some(What::Directory { .. }) => {}
            Some(What::Leaf(id)) => {
                let (layer, change) = self.stack.origin(id);
                facts.body = match &change.kind {
                    ChangeKind::File { size, content, .. } | ChangeKind::LinkSource { size, content, .. } => {
                        Body::File { size: *size, layer, content: *content }
                    }
                    ChangeKind::Symlink { target, .. } => Body::Symlink(target),
                    kind @ ChangeKind::Device { .. } if kind.is_whiteout_device() && self.shape != Shape::Merged => {
                        facts.add(Attribute::NestedWhiteout);
                        Body::Empty
                    }
                    ChangeKind::Device { major, minor, .. } => Body::Device(inode::device_number(*major, *minor)),
                    ChangeKind::Fifo(_) => Body::Fifo,
                    // No leaf is any of these.
                    ChangeKind::Whiteout
                    | ChangeKind::Opaque
                    | ChangeKind::Directory(_)
                    | ChangeKind::HardLink { .. } => Body::Empty,
                };
            }
        }
        // A symlink has no mode of its own.
        facts.mode |= if matches!(facts.body, Body::Symlink(_)) { 0o777 } else { facts.attributes.mode };
        facts
    }
}

impl Node {
    fn new(entry: u32, links: u32, kind: u32) -> Self {
        let kind = kind as u16;
        let (data, has_xattrs) = (Data::None, false);
        Self { entry, links, slot: 0, block: 0, data, compact: false, kind, has_xattrs, holds_nested: false }
    }
}

/// A file's pieces, joined: those in devices, or, where these would take more addresses than bytes, those that the image carries.
pub(super) fn file<'p>(
    contents: &dyn Contents,
    (size, layer, content): (u64, usize, ContentId),
    pieces: &'p mut Vec<Piece>,
    bits: u32,
) -> std::io::Result<File<'p>> {
    pieces.clear();
    contents.pieces(layer, content, pieces)?;
    file::join(pieces);
    if File::new(size, pieces, bits).is_scattered() {
        let mut carried = Vec::new();
        if contents.carried(layer, content, &mut carried)? {
            *pieces = carried;
            file::join(pieces);
        }
    }
    Ok(File::new(size, pieces, bits))
}
