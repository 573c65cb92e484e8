//! What is in a cache, how much room it takes, and the removal of what was not used for the longest time.
//!
//! A directory may be named that is not a cache. So only what has a name that things in a cache have is taken for one
//! of them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::UNFINISHED;
use super::lock::Lock;
use super::mounted::Mounted;
use crate::core::digest::{Algorithm, Digest};

const BLOBS: &str = "blobs";
/// The other directories of a cache; what they hold is named by a digest, too.
const OTHERS: [&str; 4] = ["overlay", "index", "contents", "erofs"];
/// What nobody holds and is not finished was left behind, once it is as old as this.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// What something in the cache is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// A blob of an image.
    Blob,
    /// What a process that was killed has left behind.
    Remains,
    /// Anything else, by the directory that it is kept in: unpacked overlay layers by `overlay`.
    #[serde(untagged)]
    Directory(String),
}

/// Something in the cache.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// A blob's digest, else its file's name.
    pub name: String,
    /// Bytes that it takes on disk.
    pub size: u64,
    /// When it was last used.
    #[serde(serialize_with = "seconds")]
    pub used: SystemTime,
    /// Whether a process uses it, or it is mounted.
    pub in_use: bool,
    /// Where it is.
    pub path: PathBuf,
}

fn seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_secs())
}

/// What was removed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Pruned {
    /// What was removed, in this order.
    pub removed: Vec<Entry>,
    /// Bytes that it took on disk.
    pub freed: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Bytes of those that are in use, and so were not to be removed.
    pub in_use: u64,
}

/// A cache that cannot be looked at or tidied.
#[derive(Debug, thiserror::Error)]
#[error("the cache: {path:?}")]
pub struct CacheError {
    /// Where.
    pub path: PathBuf,
    /// What the kernel says.
    #[source]
    pub error: std::io::Error,
}

/// All that is in a cache, what was not used for the longest time first. A cache that is not there is empty.
///
/// # Errors
/// A directory that cannot be read.
pub fn list(cache: &Path) -> Result<Vec<Entry>, CacheError> {
    let mounted = Mounted::look();
    let mut entries = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::name) {
        for file in children(&cache.join(BLOBS).join(algorithm))? {
            let name = format!("{algorithm}:{}", lossy(file.file_name().unwrap_or_default()));
            if name.parse::<Digest>().is_ok() || is_unfinished(&file) {
                entries.extend(entry(Kind::Blob, name, file, &mounted)?);
            }
        }
    }
    for group in OTHERS {
        for path in children(&cache.join(group))? {
            let name = lossy(path.file_name().unwrap_or_default());
            if begins_with_digest(&name) || is_unfinished(&path) {
                entries.extend(entry(Kind::Directory(group.to_owned()), name, path, &mounted)?);
            }
        }
    }
    entries.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
    Ok(entries)
}

/// Removes what was not used for the longest time, until at most `most` bytes are left, and what killed processes left
/// behind. What is in use or mounted stays in any case.
///
/// # Errors
/// As [`list`]; what cannot be removed.
pub fn prune(cache: &Path, most: u64) -> Result<Pruned, CacheError> {
    let entries = list(cache)?;
    let mut left: u64 = entries.iter().map(|entry| entry.size).sum();
    let mut pruned = Pruned { removed: Vec::new(), freed: 0, left, in_use: 0 };
    let (remains, used): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.kind == Kind::Remains);
    for entry in remains.into_iter().chain(used) {
        if entry.in_use {
            pruned.in_use += entry.size;
            continue;
        }
        if (left > most || entry.kind == Kind::Remains) && remove(&entry.path)? {
            left -= entry.size;
            pruned.freed += entry.size;
            pruned.removed.push(entry);
        }
    }
    pruned.left = left;
    Ok(pruned)
}

/// Removes something that nobody uses; whether it did.
pub(crate) fn remove(path: &Path) -> Result<bool, CacheError> {
    let Some(lock) = Lock::exclusive(path) else { return Ok(false) };
    // Looked at once more, now that nobody can begin to use it.
    if Mounted::look().uses(path) {
        return Ok(false);
    }
    let failed = |error| CacheError { path: path.to_owned(), error };
    if lock.file().metadata().map_err(failed)?.is_dir() {
        // Gone at once for whoever looks for it, then in truth.
        let parent = path.parent().unwrap_or(path);
        let away = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent).map_err(failed)?;
        let inside = away.path().join("removed");
        std::fs::rename(path, &inside).map_err(failed)?;
        // Who waits for it may see that it has gone.
        drop(lock);
        crate::remove_tree(&inside);
        if inside.exists() {
            return Err(failed(std::io::Error::other("it cannot be removed; it may be another user's")));
        }
    } else {
        std::fs::remove_file(path).map_err(failed)?;
    }
    Ok(true)
}

/// `sha256-<hex>`, with or without something behind it.
fn begins_with_digest(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let (algorithm, hex) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{algorithm}:{hex}").parse::<Digest>().is_ok()
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(UNFINISHED.as_bytes()))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let failed = |error| CacheError { path: directory.to_owned(), error };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Something that is there; nothing, if it has just gone.
fn entry(kind: Kind, name: String, path: PathBuf, mounted: &Mounted) -> Result<Option<Entry>, CacheError> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(None) };
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let is_unfinished = is_unfinished(&path);
    let is_young = used.elapsed().is_ok_and(|age| age < LEFT_BEHIND);
    let is_held = Lock::exclusive(&path).is_none() || (is_unfinished && is_young);
    let in_use = is_held || (metadata.is_dir() && mounted.uses(&path));
    let kind = if is_unfinished { Kind::Remains } else { kind };
    let size = size(&path)?;
    Ok(Some(Entry { kind, name, size, used, in_use, path }))
}

/// Bytes that a tree takes on disk; what has several names counts once.
fn size(path: &Path) -> Result<u64, CacheError> {
    let mut seen = HashSet::new();
    let mut size = 0;
    for entry in walkdir::WalkDir::new(path) {
        let metadata = match entry.and_then(|entry| entry.metadata()) {
            Ok(metadata) => metadata,
            Err(error) => {
                let at = error.path().unwrap_or(path).to_owned();
                let error = error.into_io_error().unwrap_or_else(|| std::io::Error::other("a circle of links"));
                match error.kind() {
                    ErrorKind::NotFound => continue,
                    _ => return Err(CacheError { path: at, error }),
                }
            }
        };
        if metadata.nlink() < 2 || metadata.is_dir() || seen.insert((metadata.dev(), metadata.ino())) {
            size += metadata.blocks() * 512;
        }
    }
    Ok(size)
}

fn lossy(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(cache: &Path, name: &str, seconds: i64) -> PathBuf {
        let path = cache.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, [1; 8192]).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())).unwrap();
        path
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
        let place = tempfile::tempdir().unwrap();
        let cache = place.path();
        let blob = |content: &[u8]| Digest::sha256_of(content).to_string();
        let blobs = |content: &[u8]| format!("blobs/{}", blob(content).replace(':', "/"));
        let old = make(cache, &blobs(b"old"), 100);
        let held = make(cache, &blobs(b"held"), 50);
        let young = make(cache, &blobs(b"young"), 300);
        let form = make(cache, &format!("overlay/{}-user/layflat.json", blob(b"form").replace(':', "-")), 200);
        let remains = make(cache, "blobs/sha256/new-x", 400);
        let lock = Lock::shared(&held).unwrap();
        let each = list(cache).unwrap().iter().map(|entry| entry.size).min().unwrap();

        let pruned = prune(cache, 4 * each).unwrap();
        let removed: Vec<_> = pruned.removed.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(removed, ["sha256:new-x", &blob(b"old")]);
        assert!(!old.exists() && !remains.exists() && held.exists() && young.exists() && form.exists());
        assert!(pruned.left <= 4 * each && pruned.in_use >= each);
        prune(cache, 0).unwrap();
        assert!(!young.exists() && !form.exists() && held.exists());
        drop(lock);
        assert_eq!(prune(cache, 0).unwrap().left, 0);
        assert!(list(&cache.join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_is_no_cache_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let hex = Digest::sha256_of(b"layer").hex().to_owned();
        let theirs = [
            "Documents/thesis".to_owned(),
            format!("Documents/sha256-{hex}"),
            "Documents/new-thesis".to_owned(),
            "blobs/of/new-mine".to_owned(),
            // As Podman's storage has it.
            format!("overlay/{hex}/diff"),
            "overlay/l".to_owned(),
            "index/index.html".to_owned(),
        ];
        let kept: Vec<PathBuf> = theirs.iter().map(|name| make(place.path(), name, 100)).collect();
        assert!(list(place.path()).unwrap().is_empty());
        assert!(prune(place.path(), 0).unwrap().removed.is_empty());
        assert!(kept.iter().all(|path| path.exists()));
    }
}
