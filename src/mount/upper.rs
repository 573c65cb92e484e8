//! The upper and the work directory of a writable mount.

use super::directory::{Directory, LowerDirectory};
use super::error::MountError;
use crate::core::overlayfs::XattrNamespace;
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where changes go. Both lie on one file system; what is missing is made, but not what it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpperDirectories {
    /// Holds the changes.
    pub upper: PathBuf,
    /// Overlayfs' own; empty before the first mount.
    pub work: PathBuf,
}

/// The two, open. Those that were made for a mount are removed again, unless it is kept.
#[derive(Debug)]
pub(super) struct OpenUpper {
    pub(super) upper: Directory,
    pub(super) work: Directory,
    /// In the order of their removal: one may have been made in the other.
    made: [Option<Made>; 2],
}

/// A directory that was not there before; removed when dropped.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    keep: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: what the kernel has already put into it stays.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

impl OpenUpper {
    /// Opens or makes both. A new upper directory takes the attributes of the topmost layer's root: the mount's root
    /// shows those of the upper one.
    pub(super) fn open(
        directories: &UpperDirectories,
        lower: &[LowerDirectory],
        namespace: XattrNamespace,
    ) -> Result<Self, MountError> {
        let (upper, made_upper) = open_or_make(&directories.upper, "the upper directory")?;
        let (work, made_work) = open_or_make(&directories.work, "the work directory")?;
        // The kernel takes an upper directory that lies in a layer, and a layer then shows and holds its own changes.
        for layer in lower {
            for inner in [&upper, &work] {
                if inner.lies_in(layer.directory()) {
                    let path = inner.path().to_owned();
                    return Err(MountError::InsideLayer { path, layer: layer.directory().path().to_owned() });
                }
            }
        }
        if let (Some(_), Some(topmost)) = (&made_upper, lower.first()) {
            copy_attributes(topmost.directory(), &upper, namespace).map_err(|error| MountError::Directory {
                action: "set the attributes of",
                what: "the upper directory",
                path: directories.upper.clone(),
                source: error,
            })?;
        }
        Ok(Self { upper, work, made: [made_work, made_upper] })
    }

    /// The mount stands, and so do its directories.
    pub(super) fn keep(&mut self) {
        self.made.iter_mut().flatten().for_each(|made| made.keep = true);
    }
}

fn open_or_make(path: &Path, what: &'static str) -> Result<(Directory, Option<Made>), MountError> {
    let made = match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Some(Made { path: path.to_owned(), keep: false }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        Err(source) => return Err(MountError::Directory { action: "make", what, path: path.to_owned(), source }),
    };
    Ok((Directory::open(path, what)?, made))
}

/// Owner, attributes, mode and mtime, in this order: each can undo what comes before it.
fn copy_attributes(from: &Directory, to: &Directory, namespace: XattrNamespace) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let to_fd = crate::fs::openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::fchown(&to_fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))) {
        // An owner that this user namespace does not know, or may not give: as everywhere, the caller owns the file.
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => {}
        Err(errno) => return Err(errno.into()),
    }
    let from_path = PathBuf::from(from.descriptor_path()).join(".");
    let to_path = PathBuf::from(to.descriptor_path()).join(".");
    match xattr::list(&from_path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error),
        Ok(names) => {
            for name in names.filter(|name| !is_mark(name, namespace)) {
                if let Some(value) = xattr::get(&from_path, &name)? {
                    xattr::set(&to_path, &name, &value)?;
                }
            }
        }
    }
    rustix::fs::fchmod(&to_fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(&to_fd, &Timestamps { last_access: mtime, last_modification: mtime })?;
    Ok(())
}

/// Whether overlayfs would obey this attribute. An escaped one is data: `trusted.overlay.overlay.opaque`.
fn is_mark(name: &OsStr, namespace: XattrNamespace) -> bool {
    let own = name.as_bytes().strip_prefix(namespace.prefix().as_bytes());
    own.is_some_and(|own| !own.starts_with(b"overlay."))
}
