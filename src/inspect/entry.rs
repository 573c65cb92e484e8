//! One file, directory or whiteout of an image, as it is shown to people and programs.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::Inside;
use crate::core::digest::Digest;
use crate::core::record::{Attributes, ChangeKind, DeviceKind, LayerPath};
use crate::core::stack::{InodeId, Node};
use crate::core::text::{Printable, Timestamp};

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A name of the layers below that is gone.
    Whiteout,
}

impl PathKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symbolic link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "named pipe",
            Self::Whiteout => "whiteout",
        }
    }

    /// The letter that `ls -l` begins a line with; BSD's has one for whiteouts, too.
    pub fn letter(self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File => '-',
            Self::Symlink => 'l',
            Self::CharacterDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Fifo => 'p',
            Self::Whiteout => 'w',
        }
    }
}

/// One path, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathEntry {
    /// From the root, without a slash before it; `/` is the root.
    pub path: LayerPath,
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub kind: PathKind,
    /// Its attributes; `None` for a whiteout.
    #[serde(flatten)]
    pub facts: Option<PathFacts>,
    /// Names of its inode, or for a directory two and its subdirectories; not known of what is shown no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<u32>,
    /// Whether the directory hides all that lies below it; only of one layer's directories.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// The attributes of a file, whatever its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathFacts {
    /// The layer that has the entry, from 0 at the bottom; none for a directory that no layer names (rule N5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Permission bits, setuid, setgid and sticky.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of the last change, in seconds since 1970.
    #[serde(serialize_with = "text")]
    pub mtime: Timestamp,
    /// Bytes of content, holes counted; of a symlink, bytes of its target.
    pub size: u64,
    /// A symlink's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A device's major and minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// SHA-256 of a regular file's content; not of one whose holes are too large to be hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// A number that names of one file share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u32>,
    /// Extended attributes, ACLs among them. Bytes that are no text are escaped.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

impl PathFacts {
    fn of(attributes: &Attributes, layer: Option<usize>) -> Self {
        let text = |bytes: &[u8]| Printable(bytes).to_string();
        let xattrs = attributes.xattrs.iter().map(|(name, value)| (text(name), text(value))).collect();
        let Attributes { mode, uid, gid, mtime, .. } = *attributes;
        let (size, target, device, digest, inode) = (0, None, None, None, None);
        Self { layer, mode, uid, gid, mtime, size, target, device, digest, inode, xattrs }
    }
}

impl Inside<'_> {
    /// Something that is, or was, in the view.
    pub(super) fn entry(&self, path: LayerPath, node: Node, links: Option<u32>) -> PathEntry {
        let (kind, facts) = match node {
            Node::Directory { attributes, .. } => {
                let facts = PathFacts::of(&self.stack.directory_attributes(attributes), attributes.layer());
                (PathKind::Directory, facts)
            }
            Node::Leaf(inode) => self.leaf(inode),
        };
        PathEntry { path, kind, facts: Some(facts), links, opaque: false }
    }

    fn leaf(&self, inode: InodeId) -> (PathKind, PathFacts) {
        let (layer, change) = self.stack.origin(inode);
        let unnamed = Attributes::of_unnamed_directory();
        let attributes = change.kind.attributes().unwrap_or(&unnamed);
        let facts = PathFacts { inode: Some(inode.number()), ..PathFacts::of(attributes, Some(layer)) };
        match &change.kind {
            ChangeKind::Symlink { target, .. } => {
                let target_text = Some(Printable(target).to_string());
                // A symlink's own mode means nothing, and no file system keeps another.
                (PathKind::Symlink, PathFacts { mode: 0o777, size: target.len() as u64, target: target_text, ..facts })
            }
            ChangeKind::Device { kind, major, minor, .. } => {
                let kind = match kind {
                    DeviceKind::Character => PathKind::CharacterDevice,
                    DeviceKind::Block => PathKind::BlockDevice,
                };
                (kind, PathFacts { device: Some((*major, *minor)), ..facts })
            }
            ChangeKind::Fifo(_) => (PathKind::Fifo, facts),
            ChangeKind::File { size, .. } | ChangeKind::LinkSource { size, .. } => {
                let digest = self.content(inode).and_then(|(_, _, content)| content.digest());
                (PathKind::File, PathFacts { size: *size, digest, ..facts })
            }
            // No file is made by these.
            ChangeKind::Whiteout | ChangeKind::Opaque | ChangeKind::Directory(_) | ChangeKind::HardLink { .. } => {
                (PathKind::Whiteout, facts)
            }
        }
    }
}
