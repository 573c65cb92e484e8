//! What lies below on disk already: where the content of a file is that a layer above it gives another name (rule L2).

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use hashbrown::HashMap;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::below::Lower;
use crate::core::record::ChangeKind;
use crate::core::stack::{InodeId, Stack, What};
use crate::fs::{open_directory, open_path, openat};
use crate::tree::TreeError;

/// A layer whose files are there already.
#[derive(Debug)]
pub(crate) enum Known {
    /// It was unpacked before.
    Tree(KnownTree),
    /// It stands for what lower directories show.
    Lower(Lower),
}

/// The tree of a layer that was unpacked before.
#[derive(Debug)]
pub(crate) struct KnownTree {
    /// None for a layer that changes nothing.
    path: Option<PathBuf>,
    /// Where in the layer's difference each file is: its first name.
    places: OnceCell<HashMap<InodeId, usize>>,
}

impl Known {
    pub(crate) fn tree_at(path: Option<PathBuf>) -> Self {
        Self::Tree(KnownTree { path, places: OnceCell::new() })
    }

    /// Opens a file of the layer for reading.
    pub(super) fn open(&self, stack: &Stack<'_>, layer: usize, inode: InodeId) -> Result<OwnedFd, Errno> {
        match self {
            Self::Tree(tree) => tree.open(stack, layer, inode),
            Self::Lower(lower) => match stack.origin(inode).1.kind {
                ChangeKind::File { content, .. } => Ok(lower.open(content).map_err(|error| errno(&error))?.into()),
                _ => Err(Errno::NOENT),
            },
        }
    }
}

/// For those who tell which file it is themselves.
fn errno(error: &TreeError) -> Errno {
    match error {
        TreeError::Io { source, .. } => Errno::from_io_error(source).unwrap_or(Errno::IO),
        TreeError::Cancelled => Errno::CANCELED,
        _ => Errno::STALE,
    }
}

impl KnownTree {
    fn open(&self, stack: &Stack<'_>, layer: usize, inode: InodeId) -> Result<OwnedFd, Errno> {
        let difference = &stack.layers()[layer];
        let places = self.places.get_or_init(|| {
            let mut places = HashMap::new();
            for (index, entry) in difference.entries().iter().enumerate() {
                if let What::Leaf(inode) = entry.what {
                    places.entry(inode).or_insert(index);
                }
            }
            places
        });
        let (Some(path), Some(&place)) = (&self.path, places.get(&inode)) else { return Err(Errno::NOENT) };
        let mut directory = open_path(path)?;
        let name = stack.path(difference, place);
        let mut components = name.components();
        let last = components.next_back().ok_or(Errno::NOENT)?;
        for component in components {
            directory = open_directory(&directory, component)?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(directory.as_fd(), OsStr::from_bytes(last), flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(directory.as_fd(), OsStr::from_bytes(last), flags, Mode::empty()),
            other => other,
        }
    }
}
