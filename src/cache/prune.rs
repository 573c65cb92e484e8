//! Removal of what was not used for the longest time, and of what killed processes left behind.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::UNFINISHED;
use super::contents::{CacheEntry, CacheError, CacheKind, entries, is_mounted};
use super::image::{IMAGES, layers_of};
use super::layer::LAYERS;
use super::lock::{Lock, cannot_lock};
use super::mounted::Mounted;

/// What was removed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Pruned {
    /// What was removed, in this order.
    pub removed: Vec<CacheEntry>,
    /// Bytes that it took on disk.
    pub freed: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Bytes of those that are in use, and so were not to be removed.
    pub in_use: u64,
    /// The machines that have recorded that they have some of it mounted.
    pub mounted_by: BTreeSet<String>,
    /// The file system has no locks, or none that other machines see: nobody can tell what is in use, and nothing was removed.
    pub without_locks: bool,
}

/// What is to be removed.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// So many bytes may be left.
    pub most: u64,
    /// Exported files also go if they were asked for in the last seven days. Whoever asked may have them mounted.
    pub exports: bool,
    /// Machines that are gone for good: what they have recorded as mounted is not.
    pub gone: Vec<String>,
}

/// Removes what was not used for the longest time, until at most so many bytes are left, and what killed processes left
/// behind. What is in use or mounted, here or on another machine, stays in any case; with a layer go the images that it is part of.
///
/// # Errors
/// As [`list`](super::list); what cannot be removed.
pub fn prune(cache: &Path, options: &PruneOptions) -> Result<Pruned, CacheError> {
    let without_locks = cannot_lock(cache);
    if !without_locks {
        Mounted::tidy(cache, &options.gone);
    }
    let entries = entries(cache, !options.exports)?;
    let mut left: u64 = entries.iter().map(|entry| entry.size).sum();
    let mounted_by = Mounted::look(cache).hosts();
    let mut pruned = Pruned { removed: Vec::new(), freed: 0, left, in_use: 0, mounted_by, without_locks };
    let (remains, used): (Vec<CacheEntry>, Vec<CacheEntry>) =
        entries.into_iter().partition(|entry| entry.kind == CacheKind::Remains);
    let mut users = Users::of(cache);
    let mut images: HashMap<PathBuf, CacheEntry> = used
        .iter()
        .filter(|entry| entry.kind == CacheKind::Image)
        .map(|entry| (entry.path.clone(), entry.clone()))
        .collect();
    for entry in remains.into_iter().chain(used) {
        if entry.in_use || without_locks {
            pruned.in_use += entry.size;
            continue;
        }
        let is_wanted = left > options.most || entry.kind == CacheKind::Remains;
        let is_gone = entry.kind == CacheKind::Image && !images.contains_key(&entry.path);
        if !is_wanted || is_gone {
            continue;
        }
        let mut going = vec![entry.clone()];
        if entry.kind == CacheKind::Layer {
            let with_it = users.of_layer(&entry.path).into_iter().filter_map(|image| images.get(&image).cloned());
            going.splice(0..0, with_it);
        }
        for entry in going {
            if !remove(&entry.path)? {
                break;
            }
            images.remove(&entry.path);
            left -= entry.size;
            pruned.freed += entry.size;
            pruned.removed.push(entry);
        }
    }
    pruned.left = left;
    Ok(pruned)
}

/// Removes something that nobody uses, and with a layer the images that it is part of; whether it did.
pub(super) fn remove_with_images(cache: &Path, path: &Path) -> Result<bool, CacheError> {
    let mut users = Users::of(cache);
    let images = if path.parent() == Some(&cache.join(LAYERS)) { users.of_layer(path) } else { Vec::new() };
    for path in images.iter().map(PathBuf::as_path).chain([path]) {
        if path.exists() && !remove(path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which images a layer is part of.
struct Users {
    directory: PathBuf,
    layers: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Users {
    fn of(cache: &Path) -> Self {
        Self { directory: cache.join(IMAGES), layers: HashMap::new() }
    }

    fn of_layer(&mut self, layer: &Path) -> Vec<PathBuf> {
        // One may have been made just now.
        let images = std::fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let of = |image: PathBuf| {
            let layers = self.layers.entry(image.clone()).or_insert_with(|| layers_of(&image));
            layers.iter().any(|other| other == layer).then_some(image)
        };
        images.filter_map(of).collect()
    }
}

/// Removes something that nobody uses; whether it did.
pub(crate) fn remove(path: &Path) -> Result<bool, CacheError> {
    let Some(lock) = Lock::exclusive(path) else { return Ok(false) };
    let Some(_users) = hold_users(path) else { return Ok(false) };
    // Looked at once more, now that nobody can begin to use it.
    let cache = path.parent().and_then(Path::parent).unwrap_or(path);
    if is_mounted(path, &Mounted::look(cache)) {
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

/// Locks the images that a layer is part of: nobody uses them, nor begins to. None if somebody does.
fn hold_users(path: &Path) -> Option<Vec<Lock>> {
    let group = path.parent()?;
    if group.file_name()? != LAYERS {
        return Some(Vec::new());
    }
    let images = Users::of(group.parent()?).of_layer(path);
    // One that is gone by now uses nothing.
    images.into_iter().filter(|image| image.exists()).map(|image| Lock::exclusive(&image)).collect()
}
