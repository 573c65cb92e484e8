//! What is in a cache, how much room it takes, and what is damaged.
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
use super::image::{self, IMAGES, layers_of};
use super::layer::{LAYERS, TREE, check};
use super::lock::{Lock, Of, are_local_on_directories};
use super::mounted::Mounted;
use crate::core::digest::{Algorithm, Digest};
use crate::fs::LONGEST_WORK;
use crate::lowerdirs::Depth;

pub(super) const BLOBS: &str = "blobs";
/// Layer indexes.
pub(super) const INDEXES: &str = "index";
/// Content files.
pub(super) const CONTENTS: &str = "contents";
/// EROFS images.
pub(super) const EROFS: &str = "erofs";
/// File system images, one file each.
pub(crate) const EXPORTS: &str = "exports";
/// Where versions of layflat before this one kept whole images.
pub(super) const OLD: &str = "overlay";
/// The directories of a cache besides that of the blobs; what they hold is named by a digest, too.
const OTHERS: [&str; 7] = [LAYERS, IMAGES, INDEXES, OLD, CONTENTS, EROFS, EXPORTS];
/// What is not finished and has a name that nobody else looks for may be so new that it is not locked yet.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// Who was given the path of an exported file has it mounted, by whatever program, and on whatever machine: for so long nobody removes it.
const LEASED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What something in the cache is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CacheKind {
    /// A blob of an image.
    Blob,
    /// An unpacked layer, which images share.
    Layer,
    /// An image whose layers are unpacked: a list of them.
    Image,
    /// What a process that was killed has left behind.
    Remains,
    /// Anything else, by the directory that it is kept in: a layer's index by `index`, and by `overlay` an image that an
    /// earlier version of layflat unpacked, which is not used any more.
    #[serde(untagged)]
    Directory(String),
}

impl CacheKind {
    /// As it is called in lists.
    pub fn name(&self) -> &str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Remains => "remains",
            Self::Directory(name) => name,
        }
    }

    /// Whether nothing uses it but bundles that an earlier version of layflat made.
    pub fn is_old(&self) -> bool {
        matches!(self, Self::Directory(name) if name == OLD)
    }

    fn of(group: &str) -> Self {
        match group {
            LAYERS => Self::Layer,
            IMAGES => Self::Image,
            group => Self::Directory(group.to_owned()),
        }
    }
}

/// Something in the cache.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CacheEntry {
    /// What it is.
    pub kind: CacheKind,
    /// A blob's digest, else its file's name.
    pub name: String,
    /// Bytes that it takes on disk.
    pub size: u64,
    /// When it was last used, to the day.
    #[serde(serialize_with = "seconds")]
    pub used: SystemTime,
    /// Whether a process uses it, or it is mounted.
    pub in_use: bool,
    /// What is wrong with it, as far as that can be told without reading all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

fn seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_secs())
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
pub fn list(cache: &Path) -> Result<Vec<CacheEntry>, CacheError> {
    let mut entries = entries(cache, true)?;
    for entry in &mut entries {
        entry.damaged = damage(entry);
    }
    Ok(entries)
}

/// The same, without what is wrong with them. `leased`: whether exported files count as in use for a while.
pub(super) fn entries(cache: &Path, leased: bool) -> Result<Vec<CacheEntry>, CacheError> {
    let mounted = Mounted::look(cache);
    let mut entries = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::name) {
        for file in children(&cache.join(BLOBS).join(algorithm))? {
            let name = format!("{algorithm}:{}", lossy(file.file_name().unwrap_or_default()));
            if name.parse::<Digest>().is_ok() || is_unfinished(&file) {
                entries.extend(entry(CacheKind::Blob, name, file, &mounted)?);
            }
        }
    }
    for group in OTHERS {
        for path in children(&cache.join(group))? {
            let name = lossy(path.file_name().unwrap_or_default());
            if begins_with_digest(&name) || is_unfinished(&path) {
                entries.extend(entry(CacheKind::of(group), name, path, &mounted)?);
            }
        }
    }
    // Who holds one on another machine has used it in the last day.
    let recent = if are_local_on_directories(cache) { LONGEST_WORK } else { Duration::ZERO };
    for entry in &mut entries {
        let is_recent = entry.used.elapsed().map_or(true, |age| age < recent);
        entry.in_use |= is_recent && entry.path.is_dir();
        entry.in_use |= leased && is_export(&entry.path) && entry.used.elapsed().map_or(true, |age| age < LEASED);
    }
    // What an image is made of is in use as long as the image is.
    let held: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| entry.kind == CacheKind::Image && entry.in_use)
        .flat_map(|entry| layers_of(&entry.path))
        .collect();
    for entry in &mut entries {
        entry.in_use |= entry.kind == CacheKind::Layer && held.contains(&entry.path);
    }
    entries.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
    Ok(entries)
}

/// What is wrong with something, as far as that can be told without reading all of it.
fn damage(entry: &CacheEntry) -> Option<String> {
    match &entry.kind {
        CacheKind::Layer => check(Of::Own, &entry.path, Depth::Stat).err(),
        CacheKind::Image => image::damage(&entry.path),
        CacheKind::Blob if entry.used == SystemTime::UNIX_EPOCH => {
            Some("it was not what its digest says when it was last read".to_owned())
        }
        kind if kind.is_old() => crate::lowerdirs::damage(&entry.path),
        _ => None,
    }
}

/// `sha256-<hex>`, with or without something behind it.
pub(super) fn begins_with_digest(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let (algorithm, hex) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{algorithm}:{hex}").parse::<Digest>().is_ok()
}

fn is_unfinished(path: &Path) -> bool {
    let begins = |start: &str| path.file_name().is_some_and(|name| name.as_bytes().starts_with(start.as_bytes()));
    begins(UNFINISHED) || begins(crate::fs::ASIDE)
}

/// Whether something is a layer of a mount, or all its layers are.
pub(super) fn is_mounted(path: &Path, mounted: &Mounted) -> bool {
    let has_tree = |layer: &PathBuf| layer.join(TREE).exists();
    let mut layers = layers_of(path).into_iter().filter(has_tree).peekable();
    mounted.uses(path) || (layers.peek().is_some() && layers.all(|layer| mounted.uses(&layer)))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let failed = |error| CacheError { path: directory.to_owned(), error };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Whether something unfinished is named after what it will be, as those are that wait for their turn.
fn is_claimed(path: &Path) -> bool {
    let name = lossy(path.file_name().unwrap_or_default());
    let what = name.strip_prefix(UNFINISHED).unwrap_or_default();
    begins_with_digest(what) || format!("sha256:{what}").parse::<Digest>().is_ok() || name.starts_with(crate::fs::ASIDE)
}

/// Whether something is an exported file's directory.
fn is_export(path: &Path) -> bool {
    path.parent().is_some_and(|group| group.ends_with(EXPORTS)) && !is_unfinished(path)
}

/// Something that is there; nothing, if it has just gone.
fn entry(kind: CacheKind, name: String, path: PathBuf, mounted: &Mounted) -> Result<Option<CacheEntry>, CacheError> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(None) };
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let is_unfinished = is_unfinished(&path);
    let is_young = used.elapsed().is_ok_and(|age| age < LEFT_BEHIND);
    // One that is named after what it will be is locked from the beginning.
    let is_anonymous = is_unfinished && !is_claimed(&path);
    let is_held = Lock::exclusive(&path).is_none() || (is_anonymous && is_young);
    let in_use = is_held || (metadata.is_dir() && is_mounted(&path, mounted));
    let kind = if is_unfinished { CacheKind::Remains } else { kind };
    let size = size(&path)?;
    Ok(Some(CacheEntry { kind, name, size, used, in_use, damaged: None, path }))
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
    use super::super::prune::{PruneOptions, prune};
    use super::*;

    fn to(most: u64) -> PruneOptions {
        PruneOptions { most, ..PruneOptions::default() }
    }

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
        let killed = cache.join("layers/.layflat-0123");
        std::fs::create_dir_all(killed.join("stage-0")).unwrap();
        let lock = Lock::shared(&held).unwrap();
        let each = list(cache).unwrap().iter().map(|entry| entry.size).min().unwrap();

        let pruned = prune(cache, &to(4 * each)).unwrap();
        let removed: Vec<_> = pruned.removed.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(removed, ["sha256:new-x", ".layflat-0123", &blob(b"old")]);
        assert!(
            !killed.exists() && !old.exists() && !remains.exists() && held.exists() && young.exists() && form.exists()
        );
        assert!(pruned.left <= 4 * each && pruned.in_use >= each);
        prune(cache, &to(0)).unwrap();
        assert!(!young.exists() && !form.exists() && held.exists());
        drop(lock);
        assert_eq!(prune(cache, &to(0)).unwrap().left, 0);
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
        assert!(prune(place.path(), &to(0)).unwrap().removed.is_empty());
        assert!(kept.iter().all(|path| path.exists()));
    }
}
