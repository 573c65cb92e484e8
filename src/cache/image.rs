//! Images whose layers are unpacked: `images/<key>/layflat.json` says which of the shared layers make up an image. The key is
//! the digest of the image's configuration, and the same options as in the keys of its layers.
//!
//! Whoever uses an image holds a lock on its directory, and by that all its layers, which are not removed before.

use std::path::{Path, PathBuf};

use super::layer::{Description, Found, KeptLayer, LAYERS, TREE, file_name};
use super::{Lock, Of};
use crate::core::digest::Digest;
use crate::fs::{open_directory, open_path};
use crate::lowerdirs::{FILE_NAME, Layout};

/// The directory of a cache that holds them.
pub(crate) const IMAGES: &str = "images";

/// An image whose layers are there and whole. They are not removed as long as this is held, or as long as they are
/// mounted.
#[derive(Debug)]
pub(crate) struct KeptImage {
    /// Its layers, bottom first.
    pub(crate) layers: Vec<(PathBuf, Description)>,
    _lock: Lock,
}

/// The image in a directory of a cache.
pub(crate) fn find(of: Of, path: &Path) -> Found<KeptImage> {
    let Some(lock) = Lock::shared_in(of, path) else { return Found::Nothing };
    let look = || {
        let layout = read(path)?;
        let directories = directories(path, &layout)?;
        let layers: Vec<usize> = (0..directories.len()).collect();
        let jobs = crate::parallel::jobs(None, 0).get();
        let found = crate::parallel::each(&layers, jobs, &std::sync::atomic::AtomicBool::new(false), &|layer| {
            KeptLayer::find(of, &directories[layer])
        });
        let mut kept = Vec::new();
        for ((found, directory), expected) in found.into_iter().zip(&directories).zip(&layout.layers) {
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            match found {
                Some(Found::Whole(layer)) if layer.description().has_tree() == expected.directory.is_some() => {
                    kept.push((directory.clone(), layer.description().clone()));
                }
                Some(Found::Damaged(problem)) => return Err(format!("layer {name}: {problem}")),
                _ => return Err(format!("layer {name} is missing")),
            }
        }
        Ok(kept)
    };
    match look() {
        Ok(layers) => {
            lock.touch();
            Found::Whole(KeptImage { layers, _lock: lock })
        }
        Err(problem) => Found::Damaged(problem),
    }
}

/// What is wrong with an image itself, not with its layers.
pub(crate) fn damage(path: &Path) -> Option<String> {
    let layout = match read(path) {
        Ok(layout) => layout,
        Err(problem) => return Some(problem),
    };
    let gone = |directory: &PathBuf| !directory.is_dir();
    match directories(path, &layout) {
        Err(problem) => Some(problem),
        Ok(directories) => directories
            .iter()
            .find(|directory| gone(directory))
            .map(|directory| format!("layer {} is missing", directory.file_name().unwrap_or_default().display())),
    }
}

/// The layers of an image, where they are or should be; none if its description cannot be read.
pub(super) fn layers_of(path: &Path) -> Vec<PathBuf> {
    read(path).and_then(|layout| directories(path, &layout)).unwrap_or_default()
}

/// Its description.
fn read(path: &Path) -> Result<Layout, String> {
    let layout = crate::lowerdirs::describe(path)?;
    if layout.format != Layout::SHARED {
        return Err(format!("{FILE_NAME}: it is of another version"));
    }
    let base = open_path(path).map_err(|error| std::io::Error::from(error).to_string())?;
    for name in layout.lowerdir.iter().filter(|name| Layout::shared_layer(name).is_none()) {
        open_directory(&base, name.as_bytes()).map_err(|error| format!("{name}: {}", std::io::Error::from(error)))?;
    }
    let named = layout.layers.iter().rev().filter_map(|layer| layer.directory.as_ref());
    let mounted = layout.lowerdir.iter().filter(|name| Layout::shared_layer(name).is_some());
    if !named.eq(mounted) {
        return Err(format!("{FILE_NAME}: its lists of layers differ"));
    }
    Ok(layout)
}

/// Where the layers of an image are, bottom first.
fn directories(path: &Path, layout: &Layout) -> Result<Vec<PathBuf>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Its own digest, then the options.
    let options = name.splitn(3, '-').nth(2).map(|options| format!("-{options}")).unwrap_or_default();
    let cache = path.parent().and_then(Path::parent).ok_or("it is not in a cache")?;
    let directory = |chain_id: &Digest| cache.join(LAYERS).join(format!("{}{options}", file_name(chain_id)));
    Ok(layout.layers.iter().map(|layer| directory(&layer.chain_id)).collect())
}

/// What overlayfs mounts of a layer, as an image's description has it.
pub(crate) fn lower_directory(key: &str) -> String {
    format!("../../{LAYERS}/{key}/{TREE}")
}
