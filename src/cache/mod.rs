//! What is kept between two runs, so that it need not be fetched or unpacked again: the blobs of images that came from
//! registries, and unpacked overlay layers.
//!
//! Nothing in here is needed: all of it can be removed at any time, and is fetched or made again. Several processes may
//! use one cache at once. Whatever is in it appears by one rename when it is whole, and whoever uses it holds a lock
//! (flock(2)), which ends with its process; without a lock nothing is removed.
//!
//! Blobs are used where images come from, unpacked overlay layers where they go to, so this module's parts stand at
//! both ends of the stream.

mod blobs;
mod contents;
mod lock;
mod mounted;
mod partial;

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

pub use blobs::Blobs;
pub use contents::{CacheError, Entry, Kind, Pruned, list, prune};
pub(crate) use lock::Lock;

/// What is not whole yet, or no more, begins so.
pub(crate) const UNFINISHED: &str = "new-";

/// Whether this user can keep anything in a directory, which need not be there yet.
pub fn is_writable(directory: &Path) -> bool {
    let there = directory.ancestors().find(|ancestor| ancestor.exists());
    there.is_some_and(|there| there.is_dir() && access(there, Access::WRITE_OK).is_ok())
}

/// `$XDG_CACHE_HOME/layflat`, or `~/.cache/layflat` (XDG Base Directory Specification).
pub fn directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("layflat"))
}
