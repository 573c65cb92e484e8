//! Reads a tree into a snapshot.
//!
//! `walkdir` and `xattr` work with paths, and a path of PATH_MAX bytes or more is refused by the kernel; trees can be
//! deeper than that. So every walk starts at `/proc/self/fd/N`, N being a directory of the tree, and where its paths
//! grow long a directory is put aside, to be opened and walked afterwards as a start of its own.

use super::error::TreeError;
use super::options::SnapshotOptions;
use super::snapshot::{Node, NodeId, ROOT, Snapshot, TreeEntry, TreeKind};
use crate::core::record::Xattrs;
use crate::core::text::Timestamp;
use rustix::fs::{major, minor};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use walkdir::WalkDir;

/// The length of a path from which on its directories are put aside. Far below PATH_MAX (4096): every call resolves the
/// whole path again, so that a chain of directories costs the square of this. Real trees seldom get there.
const LONG: usize = 512;

/// Reads everything below the snapshot's root, and the root.
pub(super) fn fill(snapshot: &mut Snapshot, root: BorrowedFd<'_>, options: &SnapshotOptions) -> Result<(), TreeError> {
    let mut aside = Vec::new();
    walk(snapshot, (ROOT, root), options, &mut aside)?;
    // Most often the next is a descendant of the last, and a long way from the root.
    let mut last: Option<(NodeId, OwnedFd)> = None;
    while let Some(start) = aside.pop() {
        let way = last.as_ref().map_or((ROOT, root), |(id, directory)| (*id, directory.as_fd()));
        let directory = snapshot.open_directory(start, root, way)?;
        walk(snapshot, (start, directory.as_fd()), options, &mut aside)?;
        last = Some((start, directory));
    }
    for index in 0..snapshot.nodes.len() {
        let mut children = std::mem::take(&mut snapshot.nodes[index].children);
        children.sort_unstable_by(|&one, &other| snapshot.node(one).name.cmp(&snapshot.node(other).name));
        snapshot.nodes[index].children = children;
    }
    Ok(())
}

/// Reads what lies below one open directory, which is known already (but for the root, which nobody has seen yet), and
/// puts aside the directories that are too far away.
fn walk(
    snapshot: &mut Snapshot,
    (start, directory): (NodeId, BorrowedFd<'_>),
    options: &SnapshotOptions,
    aside: &mut Vec<NodeId>,
) -> Result<(), TreeError> {
    let descriptor = directory.as_raw_fd();
    // With the dot the path names the directory, not the link in /proc.
    let base = format!("/proc/self/fd/{descriptor}/.");
    let mut walk = WalkDir::new(&base).same_file_system(options.one_file_system).into_iter();
    // The directories above the present entry, by depth.
    let mut above: Vec<NodeId> = vec![start];
    let mut device = 0;
    while let Some(found) = walk.next() {
        if options.cancel.is_cancelled() {
            return Err(TreeError::Cancelled);
        }
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                not_found(snapshot, &above, error)?;
                continue;
            }
        };
        let metadata = std::fs::symlink_metadata(found.path());
        if found.depth() == 0 {
            let metadata = metadata.map_err(|error| io_error(snapshot, start, b"", "look at", error))?;
            device = metadata.dev();
            if start == ROOT {
                let entry = read(found.path(), &metadata)
                    .map_err(|(action, error)| io_error(snapshot, start, b"", &action, error))?;
                snapshot.add(ROOT, b"", entry)?;
            }
            continue;
        }
        above.truncate(found.depth());
        let parent = above[found.depth() - 1];
        let name = found.file_name().as_bytes();
        let entry = match metadata {
            Ok(metadata) => read(found.path(), &metadata)
                .map_err(|(action, error)| io_error(snapshot, parent, name, &action, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => TreeEntry::ghost(),
            Err(error) => return Err(io_error(snapshot, parent, name, "look at", error)),
        };
        let is_directory = entry.kind == TreeKind::Directory;
        let same_device = entry.inode.0 == device;
        let id = snapshot.add(parent, name, entry)?;
        if is_directory != found.file_type().is_dir() {
            return Err(TreeError::Changed { root: snapshot.root.clone(), path: snapshot.path(id) });
        }
        if !is_directory || (options.one_file_system && !same_device) {
            continue;
        }
        if found.path().as_os_str().len() > LONG {
            walk.skip_current_dir();
            aside.push(id);
        } else {
            above.push(id);
        }
    }
    Ok(())
}

/// What walkdir could not read. Where readdir says no types, walkdir asks lstat for them, and so meets ghosts before we
/// do; all else is an error.
fn not_found(snapshot: &mut Snapshot, above: &[NodeId], error: walkdir::Error) -> Result<(), TreeError> {
    let parent = error.depth().checked_sub(1).and_then(|depth| above.get(depth)).copied().unwrap_or(above[0]);
    let name = error.path().and_then(Path::file_name).map_or(Vec::new(), |name| name.as_bytes().to_vec());
    let error = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
    // a directory that was there a moment ago is not a ghost
    let known = |node: &Node| node.children.iter().any(|&child| snapshot.node(child).name.as_ref() == name);
    let is_ghost = error.kind() == io::ErrorKind::NotFound
        && !name.is_empty()
        && snapshot.nodes.get(parent as usize).is_some_and(|node| !known(node));
    if !is_ghost {
        return Err(io_error(snapshot, parent, &name, "read", error));
    }
    snapshot.add(parent, &name, TreeEntry::ghost())?;
    Ok(())
}

/// A failed system call at a name in a directory; without a name, at the directory. The root may not be there yet.
fn io_error(snapshot: &Snapshot, parent: NodeId, name: &[u8], action: &str, source: io::Error) -> TreeError {
    let mut path = if parent == ROOT { Vec::new() } else { snapshot.path(parent) };
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    TreeError::Io { action: action.to_owned(), root: snapshot.root.clone(), path, source }
}

/// All that counts of what is at a path, without opening it.
pub(crate) fn entry_at(path: &Path) -> io::Result<TreeEntry> {
    read(path, &std::fs::symlink_metadata(path)?).map_err(|(_, error)| error)
}

/// All that counts of one file, without opening it. An error says what was being done.
fn read(path: &Path, metadata: &Metadata) -> Result<TreeEntry, (String, io::Error)> {
    let file_type = metadata.file_type();
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    let kind = if file_type.is_dir() {
        TreeKind::Directory
    } else if file_type.is_file() {
        TreeKind::File { size: metadata.size() }
    } else if file_type.is_symlink() {
        let target = std::fs::read_link(path).map_err(|error| ("read the link".to_owned(), error))?;
        TreeKind::Symlink { target: target.into_os_string().into_vec().into() }
    } else if file_type.is_char_device() {
        TreeKind::CharacterDevice(major, minor)
    } else if file_type.is_block_device() {
        TreeKind::BlockDevice(major, minor)
    } else if file_type.is_fifo() {
        TreeKind::Fifo
    } else {
        TreeKind::Socket
    };
    Ok(TreeEntry {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Timestamp {
            seconds: metadata.mtime(),
            // the kernel counts nanoseconds from 0 to 999,999,999
            nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
        },
        xattrs: read_xattrs(path)?,
        inode: (metadata.dev(), metadata.ino()),
    })
}

/// All extended attributes; none on a file system that has none.
fn read_xattrs(path: &Path) -> Result<Xattrs, (String, io::Error)> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Xattrs::default()),
        Err(error) => return Err(("list the extended attributes of".to_owned(), error)),
    };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in names {
        let value = xattr::get(path, &name).map_err(|error| {
            (format!("read the extended attribute {} of", crate::core::text::Printable(name.as_bytes())), error)
        })?;
        // listed, but without a value for us: nothing that could be compared
        if let Some(value) = value {
            pairs.push((name.into_vec(), value));
        }
    }
    Ok(pairs.into_iter().collect())
}
