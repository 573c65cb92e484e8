//! A snapshot of one tree in memory: names and attributes, no contents.
//!
//! The tree is an arena of nodes. A node knows its parent and its own name only, so that a chain of a thousand
//! directories takes a thousand names, not a thousand paths of a thousand names each; and nothing recurses.

use super::error::TreeError;
use super::options::SnapshotOptions;
use super::walk;
use crate::core::record::{Attributes, Xattrs};
use crate::core::text::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A directory tree as it was when it was read. It keeps its root open, to read files when they are compared.
#[derive(Debug)]
pub struct Snapshot {
    /// Where it lies, for messages; of a tree that lies nowhere, what it is called.
    pub(super) root: PathBuf,
    /// None of a tree that lies in no directory.
    pub(super) directory: Option<OwnedFd>,
    pub(super) nodes: Vec<Node>,
}

/// Index into [`Snapshot::nodes`].
pub(crate) type NodeId = u32;

/// The root of every snapshot.
pub(crate) const ROOT: NodeId = 0;

/// One name in the tree.
#[derive(Debug)]
pub(super) struct Node {
    /// The directory that holds it; for the root, itself.
    pub(super) parent: NodeId,
    /// Empty for the root.
    pub(super) name: Box<[u8]>,
    /// Sorted by name.
    pub(super) children: Vec<NodeId>,
    pub(super) entry: TreeEntry,
}

/// What lies at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// What it is.
    pub kind: TreeKind,
    /// Permission bits, setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of the content.
    pub mtime: Timestamp,
    /// All extended attributes that the reader may see, ACLs among them.
    pub xattrs: Xattrs,
    /// Device and inode number: they tell which names share an inode in this tree, and say nothing beyond it.
    pub inode: (u64, u64),
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its bytes, holes counted.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, as it stands.
        target: Box<[u8]>,
    },
    /// A character device, by major and minor number.
    CharacterDevice(u32, u32),
    /// A block device, by major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A name that readdir lists and lstat does not find. Its attributes are all zero.
    Ghost,
}

/// A [`TreeKind`] without its details, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindName {
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
    /// A socket.
    Socket,
    /// A name that readdir lists and lstat does not find.
    Ghost,
}

impl TreeKind {
    /// The kind alone.
    pub fn name(&self) -> KindName {
        match self {
            Self::Directory => KindName::Directory,
            Self::File { .. } => KindName::File,
            Self::Symlink { .. } => KindName::Symlink,
            Self::CharacterDevice(..) => KindName::CharacterDevice,
            Self::BlockDevice(..) => KindName::BlockDevice,
            Self::Fifo => KindName::Fifo,
            Self::Socket => KindName::Socket,
            Self::Ghost => KindName::Ghost,
        }
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symbolic link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Ghost => "ghost: listed, but missing",
        })
    }
}

impl TreeEntry {
    /// The attributes that an entry of a layer states, with these extended ones. A tree does not say when a file was
    /// last read: that is when it was last written, as in an archive that does not say either (rule A2).
    pub(crate) fn attributes(&self, xattrs: Xattrs) -> Attributes {
        let &Self { mode, uid, gid, mtime, .. } = self;
        Attributes { mode, uid, gid, mtime, atime: mtime, xattrs }
    }

    /// A name that is listed and not there.
    pub(super) fn ghost() -> Self {
        Self {
            kind: TreeKind::Ghost,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Xattrs::default(),
            inode: (0, 0),
        }
    }
}

impl Snapshot {
    /// Reads the tree below a directory, the directory itself included. A symbolic link to a directory will do for
    /// `root`; no other is followed. Nothing but directories is opened.
    ///
    /// # Errors
    /// Anything that cannot be read, and a tree that changes meanwhile.
    pub fn take(root: &Path, options: &SnapshotOptions) -> Result<Self, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = crate::fs::openat(CWD, root, flags, Mode::empty()).map_err(|errno| TreeError::Io {
            action: "open".to_owned(),
            root: root.to_owned(),
            path: Vec::new(),
            source: errno.into(),
        })?;
        let mut snapshot = Self { root: root.to_owned(), directory: None, nodes: Vec::new() };
        walk::fill(&mut snapshot, directory.as_fd(), options)?;
        snapshot.directory = Some(directory);
        Ok(snapshot)
    }

    /// A tree that lies in no directory, with nothing but a root: what is in it is [added](Self::add), the names of a
    /// directory in the order of their bytes. `name` is what messages call it.
    pub(crate) fn of_root(name: &Path, root: TreeEntry) -> Self {
        let root = Node { parent: ROOT, name: Box::default(), children: Vec::new(), entry: root };
        Self { root: name.to_owned(), directory: None, nodes: vec![root] }
    }

    /// How many names the tree has; its root counts as one.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of memory that it takes, about, and what is made of it: what several trees show together, and its record.
    pub(crate) fn memory(&self) -> u64 {
        const EACH: u64 = 500;
        let held = |node: &Node| {
            let target = if let TreeKind::Symlink { target } = &node.entry.kind { target.len() } else { 0 };
            (node.name.len() + target) as u64 + node.entry.xattrs.held()
        };
        self.nodes.iter().map(|node| EACH + held(node)).sum()
    }

    /// Never: there is always the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What lies at a path, given without a leading slash; the empty path is the root.
    pub fn get(&self, path: &[u8]) -> Option<&TreeEntry> {
        self.find(path).map(|id| self.entry(id))
    }

    pub(crate) fn find(&self, path: &[u8]) -> Option<NodeId> {
        let mut id = ROOT;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let children = &self.node(id).children;
            let found = children.binary_search_by(|&child| self.node(child).name.as_ref().cmp(name)).ok()?;
            id = children[found];
        }
        Some(id)
    }

    /// Every path and what lies there: a directory before what it holds, siblings by their bytes. Paths have no
    /// leading slash, and the root's is empty.
    pub fn entries(&self) -> impl Iterator<Item = (Vec<u8>, &TreeEntry)> {
        let mut waiting = vec![ROOT];
        std::iter::from_fn(move || {
            let id = waiting.pop()?;
            waiting.extend(self.node(id).children.iter().rev());
            Some((self.path(id), &self.node(id).entry))
        })
    }

    pub(crate) fn entry(&self, id: NodeId) -> &TreeEntry {
        &self.node(id).entry
    }

    pub(crate) fn name(&self, id: NodeId) -> &[u8] {
        &self.node(id).name
    }

    /// What a directory holds, by name.
    pub(crate) fn children(&self, id: NodeId) -> &[NodeId] {
        &self.node(id).children
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Adds a name to a directory; the caller sorts the directory's children in the end.
    pub(crate) fn add(&mut self, parent: NodeId, name: &[u8], entry: TreeEntry) -> Result<NodeId, TreeError> {
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| TreeError::TooLarge { root: self.root.clone() })?;
        self.nodes.push(Node { parent, name: name.into(), children: Vec::new(), entry });
        if id != ROOT {
            self.nodes[parent as usize].children.push(id);
        }
        Ok(id)
    }

    /// The names that lead from a directory to a path, and the directory: the one given, or the root if it does not
    /// hold the path.
    fn components(&self, mut id: NodeId, from: NodeId) -> (NodeId, Vec<&[u8]>) {
        let mut names = Vec::new();
        while id != from && id != ROOT {
            let node = self.node(id);
            names.push(node.name.as_ref());
            id = node.parent;
        }
        names.reverse();
        (id, names)
    }

    /// The path without a leading slash; empty for the root.
    pub(crate) fn path(&self, id: NodeId) -> Vec<u8> {
        self.components(id, ROOT).1.join(&b'/')
    }

    /// A failed system call at a path.
    pub(crate) fn error(&self, id: NodeId, action: &str, source: io::Error) -> TreeError {
        TreeError::Io { action: action.to_owned(), root: self.root.clone(), path: self.path(id), source }
    }

    /// That files of a tree cannot be read which lies in no directory.
    pub(crate) fn no_contents(&self, source: Box<dyn std::error::Error + Send + Sync>) -> TreeError {
        TreeError::Contents { root: self.root.clone(), source }
    }

    /// Opens a directory of the tree, to look at and go on from; by way of one that is open, if it leads there.
    pub(super) fn open_directory(
        &self,
        id: NodeId,
        root: BorrowedFd<'_>,
        by_way_of: (NodeId, BorrowedFd<'_>),
    ) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open(id, flags, root, by_way_of).map_err(|errno| self.error(id, "open", errno.into()))
    }

    /// Opens a file of the tree for reading. Should it have become a FIFO since, opening it does not wait.
    pub(crate) fn open_file(&self, id: NodeId) -> Result<File, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        // Only the owner may leave the atime alone.
        let open = |flags| {
            let root = self.directory.as_ref().ok_or(Errno::BADF)?.as_fd();
            self.open(id, flags, root, (ROOT, root))
        };
        let file = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            other => other,
        };
        let file = File::from(file.map_err(|errno| self.error(id, "open", errno.into()))?);
        let metadata = file.metadata().map_err(|error| self.error(id, "look at", error))?;
        if !metadata.is_file() {
            return Err(TreeError::Changed { root: self.root.clone(), path: self.path(id) });
        }
        Ok(file)
    }

    /// Opens a path below the root, however long it is: the kernel takes at most PATH_MAX bytes in one call.
    fn open(
        &self,
        id: NodeId,
        flags: OFlags,
        root: BorrowedFd<'_>,
        by_way_of: (NodeId, BorrowedFd<'_>),
    ) -> Result<OwnedFd, Errno> {
        const LONGEST: usize = 4000;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let at = |directory: BorrowedFd<'_>, path: &[u8], flags: OFlags| {
            let path = if path.is_empty() { b"." } else { path };
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            crate::fs::openat2(directory, Path::new(std::ffi::OsStr::from_bytes(path)), flags, Mode::empty(), resolve)
        };
        let (start, names) = self.components(id, by_way_of.0);
        let start = if start == by_way_of.0 { by_way_of.1 } else { root };
        let mut reached: Option<OwnedFd> = None;
        let mut path: Vec<u8> = Vec::new();
        for name in names {
            if path.len() + name.len() > LONGEST {
                let directory = reached.as_ref().map_or(start, OwnedFd::as_fd);
                reached = Some(at(directory, &path, OFlags::PATH | OFlags::DIRECTORY)?);
                path.clear();
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        at(reached.as_ref().map_or(start, OwnedFd::as_fd), &path, flags)
    }
}
