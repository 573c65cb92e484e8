//! The inodes of an image, and which names lead to them.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::error::Lost;
use super::inode::{self, FIRST_INODE, ROOT_INODE};
use crate::core::record::{Attributes, ChangeKind, ContentId, DeviceKind, LayerPath};
use crate::core::stack::{Children, Difference, InodeId, Stack, What};

/// Names of a file: the kernel's EXT4_LINK_MAX.
const MOST_NAMES: u32 = 65_000;

/// Tells what an image does not hold of a file. The path is only made if it is asked for.
pub(super) type Tell<'t> = &'t mut dyn FnMut(&Lost<'_>, &dyn Fn() -> LayerPath);

/// An inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// The first of its entries.
    pub(super) entry: u32,
    /// How many names it has; of a directory, how many lead to it.
    pub(super) links: u32,
}

/// What an inode is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'r> {
    Directory,
    File { size: u64, layer: usize, content: ContentId },
    Symlink(&'r [u8]),
    Device(DeviceKind, u32, u32),
    Fifo,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// With the kind of file.
    pub(super) mode: u32,
}

#[derive(Debug)]
pub(super) struct Tree<'a, 'r> {
    stack: &'a Stack<'r>,
    difference: &'a Difference,
    /// The root is the first.
    pub(super) nodes: Vec<Node>,
    /// The node of each entry.
    node_of: Vec<u32>,
    children: Children,
}

impl<'a, 'r> Tree<'a, 'r> {
    pub(super) fn new(stack: &'a Stack<'r>, difference: &'a Difference, tell: Tell<'_>) -> Self {
        let entries = difference.entries();
        let mut tree = Self {
            stack,
            difference,
            nodes: Vec::with_capacity(entries.len().max(1)),
            node_of: Vec::with_capacity(entries.len()),
            children: Children::of(difference),
        };
        let mut linked: HashMap<u32, u32> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let at = match entry.what {
                What::Leaf(inode) if stack.is_linked(inode) => tree.named(index, inode, &mut linked, tell),
                What::Directory { .. } => tree.add(index, 2),
                What::Leaf(_) | What::Whiteout => tree.add(index, 1),
            };
            tree.node_of.push(at);
            if index > 0 && matches!(entry.what, What::Directory { .. }) {
                let parent = tree.node_of[entry.parent()] as usize;
                tree.nodes[parent].links += 1;
            }
        }
        if tree.nodes.is_empty() {
            tree.add(0, 2);
        }
        tree
    }

    fn add(&mut self, entry: usize, links: u32) -> u32 {
        self.nodes.push(Node { entry: entry as u32, links });
        self.nodes.len() as u32 - 1
    }

    /// The node of a file that has other names, too; more names than a file can have are those of a copy.
    fn named(&mut self, index: usize, inode: InodeId, linked: &mut HashMap<u32, u32>, tell: Tell<'_>) -> u32 {
        match linked.get(&inode.number()) {
            Some(&node) if self.nodes[node as usize].links < MOST_NAMES => {
                self.nodes[node as usize].links += 1;
                return node;
            }
            Some(_) => tell(&Lost::HardLink, &|| self.stack.path(self.difference, index)),
            None => {}
        }
        let node = self.add(index, 1);
        linked.insert(inode.number(), node);
        node
    }

    /// The first path of a node.
    pub(super) fn path(&self, node: Node) -> LayerPath {
        self.stack.path(self.difference, node.entry as usize)
    }

    /// The number of a node's inode.
    pub(super) fn inode(node: u32) -> u32 {
        if node == 0 { ROOT_INODE } else { FIRST_INODE - 1 + node }
    }

    /// The names in a directory, the two that lead to itself and to its parent first.
    pub(super) fn names(&self, node: Node) -> impl Iterator<Item = Name<'_>> {
        let entries = self.difference.entries();
        let at = node.entry as usize;
        let children = self.children.of_entry(at);
        let own = self.node_of.get(at).copied().unwrap_or(0);
        let parent = entries.get(at).map_or(0, |entry| self.node_of[entry.parent()]);
        let directory = |name, node| Name { name, inode: Self::inode(node), mode: inode::DIRECTORY };
        let itself = [directory(&b"."[..], own), directory(&b".."[..], parent)];
        itself.into_iter().chain(children.iter().map(move |&child| {
            let node = self.node_of[child as usize];
            let name = self.stack.name(&entries[child as usize]);
            Name { name, inode: Self::inode(node), mode: self.kind(child as usize) }
        }))
    }

    /// What kind of file an entry is.
    fn kind(&self, entry: usize) -> u32 {
        match self.body(entry).0 {
            Body::Directory => inode::DIRECTORY,
            Body::File { .. } => inode::FILE,
            Body::Symlink(_) => inode::SYMLINK,
            Body::Device(DeviceKind::Character, ..) => inode::CHARACTER_DEVICE,
            Body::Device(DeviceKind::Block, ..) => inode::BLOCK_DEVICE,
            Body::Fifo => inode::FIFO,
        }
    }

    /// What a node is, its mode with the kind of file, and its attributes.
    pub(super) fn facts(&self, node: Node) -> (Body<'r>, u32, Cow<'r, Attributes>) {
        let (body, attributes) = self.body(node.entry as usize);
        // A symlink has no mode of its own.
        let bits = if matches!(body, Body::Symlink(_)) { 0o777 } else { attributes.mode };
        (body, self.kind(node.entry as usize) | bits, attributes)
    }

    fn body(&self, entry: usize) -> (Body<'r>, Cow<'r, Attributes>) {
        let unnamed = || Cow::Owned(Attributes::of_unnamed_directory());
        let (layer, change) = match self.difference.entries().get(entry).map(|entry| entry.what) {
            Some(What::Directory { attributes, .. }) => {
                return (Body::Directory, self.stack.directory_attributes(attributes));
            }
            Some(What::Leaf(inode)) => self.stack.origin(inode),
            // The root of nothing; a whole tree has no whiteouts.
            None | Some(What::Whiteout) => return (Body::Directory, unnamed()),
        };
        let body = match &change.kind {
            ChangeKind::File { size, content, .. } | ChangeKind::LinkSource { size, content, .. } => {
                Body::File { size: *size, layer, content: *content }
            }
            ChangeKind::Symlink { target, .. } => Body::Symlink(target),
            ChangeKind::Device { kind, major, minor, .. } => Body::Device(*kind, *major, *minor),
            // No leaf is any of the others.
            _ => Body::Fifo,
        };
        (body, change.kind.attributes().map_or_else(unnamed, Cow::Borrowed))
    }
}
