//! The bundle whose root file system is a mount of the overlay form, and the changes made to it.
//!
//! The layers lie in the cache, where any number of bundles share them: a bundle of an image that is there costs no
//! extraction. A `layflat.json` in the bundle says where they are, so that `layflat mount` finds them.

use super::error::BundleError;
use super::flat::{RESULT, begin};
use super::options::BundleOptions;
use super::rootfs::Rootfs;
use super::write::{write, write_config};
use super::{ROOTFS, Report};
use crate::cache;
use crate::error::Error;
use crate::form::FILE_NAME;
use crate::image::Image;
use crate::options::Options;
use crate::overlay::{
    MountOptions, MountRequest, Mounted, UnmountError, UpperDirectories, mount, mount_nowhere, umount,
};
use crate::report::Progress;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const UPPER: &str = "upper";
const WORK: &str = "work";
/// What the description is called in its `form`.
const FORM: &str = "bundle";

/// A bundle that is there, and whose root file system is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayBundle {
    directory: PathBuf,
    layers: PathBuf,
}

/// Its `layflat.json`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Description {
    /// Version of this file's format; this is 1.
    format: u32,
    /// [`FORM`], where an overlay form has `overlay`.
    form: String,
    /// The overlay form that holds the layers.
    layers: PathBuf,
}

/// Makes a bundle of an image whose layers lie in the cache directory `cache`, where they are laid down if they are not
/// there; `mounted`: mounts its root file system, too.
///
/// It appears whole or not at all (rule S2), its mount included.
///
/// # Errors
/// As for [`cache::overlay`] and [`mount`](crate::overlay::mount()), and an image that does not say what to run, or as whom.
pub fn overlay(
    image: &Image,
    directory: &Path,
    cache: &Path,
    mounted: bool,
    lay: &Options,
    bundle: &BundleOptions,
    progress: &dyn Progress,
) -> Result<Report, BundleError> {
    let (work, result) = begin(directory, lay, &bundle.confinement)?;
    // Held until the bundle is mounted, or done: then it is in use by that, or not in use.
    let kept = cache::overlay(image, cache, lay, progress)?;
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| BundleError::File { action, path, source }
    };
    // Whoever mounts the bundle may do so from elsewhere.
    let layers = kept.path().canonicalize().map_err(file("find", kept.path()))?;
    let looked_into = mount_nowhere(&MountRequest::of_layout(&layers, MountOptions::default())?)?;
    let left_out = write_config(image, &Rootfs::new(looked_into, lay.owners.clone()), bundle, &result)?;
    let rootfs = result.join(ROOTFS);
    std::fs::create_dir(&rootfs).map_err(file("make", &rootfs))?;
    let path = result.join(FILE_NAME);
    let description = Description { format: 1, form: FORM.to_owned(), layers: layers.clone() };
    let text = serde_json::to_vec_pretty(&description);
    write(&path, &text.map_err(|source| BundleError::Json { path: path.clone(), source })?)?;
    let directory = work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    let made = OverlayBundle { directory: directory.clone(), layers };
    if mounted && let Err(error) = made.mount(MountOptions::default()) {
        crate::remove_tree(&directory);
        return Err(error);
    }
    Ok(Report { directory, laid_down: None, mounted: Some(mounted), left_out })
}

impl OverlayBundle {
    /// The bundle in a directory; none if it holds no such bundle.
    ///
    /// # Errors
    /// A description that cannot be read.
    pub fn open(directory: &Path) -> Result<Option<Self>, BundleError> {
        let path = directory.join(FILE_NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(source) => return Err(BundleError::File { action: "read", path, source }),
        };
        let json = |source| BundleError::Json { path: path.clone(), source };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(json)?;
        // What is no bundle's is for others to read.
        if value.get("form").and_then(serde_json::Value::as_str) != Some(FORM) {
            return Ok(None);
        }
        let description: Description = serde_json::from_value(value).map_err(json)?;
        Ok(Some(Self { directory: directory.to_owned(), layers: description.layers }))
    }

    /// Where its root file system is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join(ROOTFS)
    }

    /// Mounts its root file system, writable, with what was changed before.
    ///
    /// # Errors
    /// Layers that are gone, and as for [`mount`](crate::overlay::mount()).
    pub fn mount(&self, options: MountOptions) -> Result<Mounted, BundleError> {
        if !self.layers.join(FILE_NAME).exists() {
            return Err(BundleError::LayersGone { bundle: self.directory.clone(), layers: self.layers.clone() });
        }
        let upper = UpperDirectories { upper: self.directory.join(UPPER), work: self.directory.join(WORK) };
        let request = MountRequest::of_layout(&self.layers, MountOptions { upper: Some(upper), ..options })?;
        Ok(mount(&request, &self.rootfs())?)
    }

    /// Unmounts its root file system, and clears what overlayfs leaves in its work directory, which only root could
    /// remove.
    ///
    /// # Errors
    /// As for [`umount`](crate::overlay::umount()).
    pub fn umount(&self, lazy: bool) -> Result<(), UnmountError> {
        umount(&self.rootfs(), lazy)?;
        if !lazy {
            for name in ["work", "index"] {
                crate::remove_tree(&self.directory.join(WORK).join(name));
            }
        }
        Ok(())
    }
}
