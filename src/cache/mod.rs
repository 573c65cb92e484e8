//! The cache: blobs from registries, layer indexes and unpacked layers, so that nothing is downloaded or unpacked
//! twice.
//!
//! Nothing in here is needed: all of it can be removed at any time, and is fetched or made again. Several processes may
//! use one cache at once. Whatever is in it appears by one rename when it is whole, and whoever uses it holds a lock
//! (flock(2)), which ends with its process; without a lock nothing is removed.
//!
//! Blobs are used where images come from, unpacked overlay layers where they go to, so this module's parts stand at
//! both ends of the stream.

mod blobs;
mod contents;
mod draft;
mod image;
mod layer;
mod lease;
mod lock;
mod mounted;
mod node;
mod partial;
mod patience;
mod prune;
mod record;
mod sealed;
mod turn;
mod verify;
mod waiting;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

pub use blobs::Blobs;
pub(crate) use contents::EXPORTS;
pub use contents::{CacheEntry, CacheError, CacheKind, list};
pub(crate) use draft::{Draft, renew};
pub(crate) use image::{IMAGES, KeptImage, find as find_image, lower_directory};
pub(crate) use layer::{Description, Found, KeptLayer, LAYERS, TREE, file_name, read as read_file};
pub(crate) use lock::{Lock, Of};
pub(crate) use prune::remove;
pub use prune::{PruneOptions, Pruned, prune};
pub(crate) use record::{record_mount, recorded_at};
pub(crate) use sealed::{SEAL, recognise, recognised, replace_useless};
pub(crate) use turn::{Turn, sweep};
pub use verify::{Damaged, Verified, verify};
pub use waiting::Waiting;

/// What is not whole yet, or no more, begins so.
pub(crate) const UNFINISHED: &str = "new-";

/// A blob that cannot be kept, within an [`std::io::Error`] of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep it in the cache {directory:?}")]
pub struct NotKept {
    directory: PathBuf,
    #[source]
    error: std::io::Error,
}

impl NotKept {
    /// Whether the disk is full.
    pub fn lacks_room(&self) -> bool {
        matches!(self.error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

/// Whether this user can keep anything in a directory, which need not be there yet.
pub fn is_writable(directory: &Path) -> bool {
    let there = directory.ancestors().find(|ancestor| ancestor.exists());
    there.is_some_and(|there| there.is_dir() && access(there, Access::WRITE_OK).is_ok())
}

/// Whether what is in a directory can be believed (rule S8): nobody else may have put it there. That it is not there
/// yet is fine.
///
/// # Errors
/// It belongs to somebody else, or others may write it.
pub fn check_owner(directory: &Path) -> Result<(), CacheError> {
    let Ok(metadata) = directory.metadata() else { return Ok(()) };
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let problem = if owner != own && owner != 0 {
        format!("it belongs to another user (uid {owner}), who could change what is in it; use a directory of your own")
    } else if metadata.mode() & 0o022 != 0 {
        let path = directory.display();
        format!("others may write it, and could change what is in it; use another directory, or: chmod go-w {path}")
    } else {
        return Ok(());
    };
    Err(CacheError { path: directory.to_owned(), error: std::io::Error::other(problem) })
}

/// `$XDG_CACHE_HOME/layflat`, or `~/.cache/layflat` (XDG Base Directory Specification).
pub fn directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("layflat"))
}
