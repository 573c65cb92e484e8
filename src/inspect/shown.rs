//! The tree that an image shows, to be compared with another one: a [`Snapshot`] for which nothing is unpacked, and
//! what its contents are known by.

use std::error::Error;
use std::path::Path;

use hashbrown::HashMap;

use super::index::sparse::sparse_hashes;
use super::{Inside, InsideError};
use crate::compare::{Contents, KnownContent, Side};
use crate::core::layer::{Holder, has_namespace, kept_xattr};
use crate::core::record::{Attributes, ChangeKind, ContentId, DeviceKind, Xattrs};
use crate::core::stack::{InodeId, What};
use crate::image::Image;
use crate::tree::{NodeId, ROOT, Snapshot, TreeEntry, TreeError, TreeKind};
use crate::unpack::{self, AttributeProbe, Options};

/// Which attributes a [`ShownTree`] has.
#[derive(Debug)]
pub enum Holding<'p> {
    /// All that the image states and Linux can keep: what root sees on a file system that holds everything.
    AsStated,
    /// What is left when the image is unpacked here by this caller (rule A4), for a comparison with a tree that was.
    AsUnpacked(&'p mut AttributeProbe),
}

/// What an image shows, without being unpacked.
#[derive(Debug)]
pub struct ShownTree<'a> {
    tree: Snapshot,
    contents: LayerContents<'a>,
}

/// The contents of files in layers, by the numbers of their inodes.
#[derive(Debug)]
struct LayerContents<'a> {
    image: &'a Image,
    options: &'a Options,
    known: HashMap<u64, (usize, ContentId, KnownContent)>,
}

impl ShownTree<'_> {
    /// Names and attributes.
    pub fn tree(&self) -> &Snapshot {
        &self.tree
    }
}

impl<'s> From<&'s ShownTree<'_>> for Side<'s> {
    fn from(shown: &'s ShownTree<'_>) -> Self {
        Self { tree: &shown.tree, contents: Some(&shown.contents) }
    }
}

impl<'a> Inside<'a> {
    /// The tree that the image shows. `name` is what messages call it.
    ///
    /// # Errors
    /// More names than can be counted; with [`Holding::AsUnpacked`] a directory in which nothing can be tried.
    pub fn shown_tree(
        &self,
        name: &Path,
        mut holding: Holding<'_>,
        options: &'a Options,
    ) -> Result<ShownTree<'a>, InsideError> {
        let whole = self.stack.whole();
        if options.cancel.is_cancelled() {
            return Err(unpack::Error::Cancelled.into());
        }
        let root = self.stack.root_attributes(&whole);
        let root = holding.entry(TreeKind::Directory, &root)?.unwrap_or_else(|| stated(TreeKind::Directory, &root));
        let mut tree = Snapshot::of_root(name, root);
        let mut contents = LayerContents { image: self.image, options, known: HashMap::new() };
        // Of each entry, the directory that it has become.
        let mut nodes: Vec<NodeId> = vec![ROOT];
        for (index, entry) in whole.entries().iter().enumerate().skip(1) {
            if index.is_multiple_of(1024) && options.cancel.is_cancelled() {
                return Err(unpack::Error::Cancelled.into());
            }
            let found = match entry.what {
                What::Directory { attributes, .. } => {
                    holding.entry(TreeKind::Directory, &self.stack.directory_attributes(attributes))?
                }
                What::Leaf(inode) => self.leaf_entry(inode, &mut holding)?,
                What::Whiteout => None,
            };
            let mut node = ROOT;
            if let Some(found) = found {
                let inode = found.inode.1;
                node = tree.add(nodes[entry.parent()], self.stack.name(entry), found).map_err(too_large)?;
                if let What::Leaf(id) = entry.what
                    && let Some((layer, content, known)) = self.content(id)
                {
                    let known = KnownContent { hash: known.identity(), is_sha256: known.digest().is_some() };
                    contents.known.insert(inode, (layer, content, known));
                }
            }
            nodes.push(node);
        }
        Ok(ShownTree { tree, contents })
    }

    fn leaf_entry(&self, inode: InodeId, holding: &mut Holding<'_>) -> Result<Option<TreeEntry>, InsideError> {
        let (_, change) = self.stack.origin(inode);
        let kind = match &change.kind {
            ChangeKind::File { size, .. } | ChangeKind::LinkSource { size, .. } => TreeKind::File { size: *size },
            ChangeKind::Symlink { target, .. } => TreeKind::Symlink { target: target.clone() },
            ChangeKind::Device { kind: DeviceKind::Character, major, minor, .. } => {
                TreeKind::CharacterDevice(*major, *minor)
            }
            ChangeKind::Device { kind: DeviceKind::Block, major, minor, .. } => TreeKind::BlockDevice(*major, *minor),
            ChangeKind::Fifo(_) => TreeKind::Fifo,
            // No file is made by these.
            ChangeKind::Whiteout | ChangeKind::Opaque | ChangeKind::Directory(_) | ChangeKind::HardLink { .. } => {
                return Ok(None);
            }
        };
        let Some(attributes) = change.kind.attributes() else { return Ok(None) };
        let number = (0, u64::from(inode.number()));
        Ok(holding.entry(kind, attributes)?.map(|entry| TreeEntry { inode: number, ..entry }))
    }
}

/// There can be no other error where a name is added.
fn too_large(_: TreeError) -> InsideError {
    unpack::Error::Io { action: "cannot list the image".to_owned(), error: std::io::ErrorKind::OutOfMemory.into() }
        .into()
}

impl Holding<'_> {
    /// What is at a path; nothing, if it cannot be.
    fn entry(&mut self, kind: TreeKind, attributes: &Attributes) -> Result<Option<TreeEntry>, unpack::Error> {
        match self {
            Self::AsStated => Ok(Some(stated(kind, attributes))),
            Self::AsUnpacked(probe) => probe.entry(kind, attributes),
        }
    }
}

/// What an image states, as far as Linux can keep it.
fn stated(kind: TreeKind, attributes: &Attributes) -> TreeEntry {
    let holder = match kind {
        TreeKind::Directory => Holder::Directory,
        TreeKind::File { .. } => Holder::File,
        TreeKind::Symlink { .. } => Holder::Symlink,
        _ => Holder::Special,
    };
    let Attributes { mode, uid, gid, mtime, .. } = *attributes;
    let value = |(name, value): (&[u8], &[u8])| {
        // Labels are the machine's, and only set where that is asked for (rule A3).
        if name == b"security.selinux" || !has_namespace(name) {
            return None;
        }
        let value = kept_xattr(holder, name, value, mode).ok()??.into_owned();
        Some((name.to_vec(), if name == b"security.capability" { for_root(value) } else { value }))
    };
    let xattrs: Xattrs = match attributes.xattrs.is_empty() {
        true => Xattrs::default(),
        false => attributes.xattrs.iter().filter_map(value).collect(),
    };
    TreeEntry { kind, mode, uid, gid, mtime, xattrs, inode: (0, 0) }
}

/// Capabilities that count for the first root are shown in revision 2, even if they were written in revision 3
/// (`cap_inode_getsecurity`, security/commoncap.c).
fn for_root(mut capability: Vec<u8>) -> Vec<u8> {
    if capability.len() == 24 && capability[20..] == [0; 4] {
        capability.truncate(20);
        capability[3] = 2;
    }
    capability
}

impl Contents for LayerContents<'_> {
    fn known(&self, inode: u64) -> Option<KnownContent> {
        self.known.get(&inode).map(|&(_, _, known)| known)
    }

    fn sparse_hashes(&self, inodes: &[u64]) -> Result<Vec<[u8; 32]>, Box<dyn Error + Send + Sync>> {
        let place = |inode: &u64| self.known.get(inode).map(|&(layer, content, _)| (layer, content));
        let places: Vec<(usize, ContentId)> = inodes.iter().filter_map(place).collect();
        let hashes = sparse_hashes(self.image, &places, self.options)?;
        let altered = || std::io::Error::other("the image was altered since its layers were indexed");
        let hash = |inode| place(inode).and_then(|place| hashes.get(&place).copied()).ok_or_else(altered);
        Ok(inodes.iter().map(hash).collect::<Result<_, _>>()?)
    }
}
