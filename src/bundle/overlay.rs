//! A bundle whose root file system is an overlay mount of cached layers, and the changes made to it.
//!
//! The layers lie in the cache, where any number of bundles share them: a bundle of an image that is there costs no
//! extraction. A `layflat.json` in the bundle says where they are, so that `layflat mount` finds them.

use super::error::BundleError;
use super::flat::{RESULT, begin};
use super::options::BundleOptions;
use super::rootfs::Rootfs;
use super::write::{write, write_config};
use super::{ROOTFS, Report};
use crate::cache::KeptImage;
use crate::image::Image;
use crate::lowerdirs::{self, FILE_NAME, LayoutError};
use crate::metadata::{How, Stacking, ready};
use crate::mount::{MountError, MountOptions, Mounted, UpperDirectories, mount_layout, mount_layout_nowhere, umount};
use crate::unpack::{Error, Options, Progress, cached};
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
    /// [`FORM`]; for unpacked overlay layers `layflat.json` has `overlay`.
    form: String,
    /// The directory with the unpacked layers.
    layers: PathBuf,
}

/// Makes a bundle of an image that is made [`ready`] in the cache directory `cache`; `mounted`: mounts its root file system, too.
///
/// It appears whole or not at all (rule S2), its mount included.
///
/// # Errors
/// As for [`ready`] and [`mount`](crate::mount::mount()), and an image that does not say what to run, or as
/// whom.
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
    let how = How { stacking: Stacking::MergedBelow, ..bundle.how };
    let kept = ready(image, cache, &how, lay, progress)?;
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| BundleError::File { action, path, source }
    };
    // Whoever mounts the bundle may do so from elsewhere.
    let layers = kept.path().canonicalize().map_err(file("find", kept.path()))?;
    let looked_into = mount_layout_nowhere(&layers, MountOptions::default())?;
    let left_out = write_config(image, &Rootfs::new(looked_into, lay.owners.clone()), bundle, &result)?;
    let rootfs = result.join(ROOTFS);
    std::fs::create_dir(&rootfs).map_err(file("make", &rootfs))?;
    let path = result.join(FILE_NAME);
    let description = Description { format: 1, form: FORM.to_owned(), layers: layers.clone() };
    let text = serde_json::to_vec_pretty(&description);
    write(&path, &text.map_err(|source| BundleError::Json { path: path.clone(), source })?)?;
    let made = OverlayBundle { directory: result, layers };
    if mounted {
        // Where this fails, what is to be replaced must still be there.
        made.try_mount()?;
    }
    // A bundle whose mount was asked for is not whole without it.
    let _held = mounted.then(crate::fs::hold);
    let directory = work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    let made = OverlayBundle { directory: directory.clone(), ..made };
    if mounted && let Err(error) = made.mount(MountOptions::default()) {
        crate::remove_tree(&directory);
        return Err(error);
    }
    let (not_kept, repaired) = (kept.not_kept().to_vec(), kept.repaired().map(str::to_owned));
    Ok(Report { directory, unpacked: None, mounted: Some(mounted), not_kept, repaired, left_out })
}

impl OverlayBundle {
    /// The bundle in a directory; none if it holds no such bundle.
    ///
    /// # Errors
    /// A description that cannot be read.
    pub fn open(directory: &Path) -> Result<Option<Self>, BundleError> {
        if !directory.is_dir() {
            return Ok(None);
        }
        let read = lowerdirs::open(directory).and_then(|base| lowerdirs::read(&base, directory));
        let text = match read {
            Ok(text) => text,
            Err(LayoutError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(MountError::Layout(error).into()),
        };
        // What is not a bundle's is for others to read.
        let Some(value) = serde_json::from_slice::<serde_json::Value>(&text).ok().filter(|value| value["form"] == FORM)
        else {
            return Ok(None);
        };
        let path = directory.join(FILE_NAME);
        let description: Description =
            serde_json::from_value(value).map_err(|source| BundleError::Json { path: path.clone(), source })?;
        if description.format != 1 {
            let (form, format) = (description.form, description.format);
            return Err(MountError::Layout(LayoutError::Unknown { path, form, format }).into());
        }
        Ok(Some(Self { directory: directory.to_owned(), layers: description.layers }))
    }

    /// Where its root file system is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join(ROOTFS)
    }

    /// Mounts its root file system, writable, with what was changed before.
    ///
    /// # Errors
    /// Layers that are gone, parts that are links, and as for [`mount`](crate::mount::mount()).
    pub fn mount(&self, options: MountOptions) -> Result<Mounted, BundleError> {
        let (_held, options) = self.prepare(options)?;
        Ok(mount_layout(&self.layers, &self.rootfs(), options)?)
    }

    /// Finds out whether it can be mounted. Nothing stays mounted, whatever ends this process.
    fn try_mount(&self) -> Result<(), BundleError> {
        let (_held, options) = self.prepare(MountOptions::default())?;
        mount_layout_nowhere(&self.layers, options)?;
        Ok(())
    }

    /// Holds its layers, which are then in use until they are mounted, and adds where its changes go.
    fn prepare(&self, options: MountOptions) -> Result<(Option<KeptImage>, MountOptions), BundleError> {
        if !self.layers.join(FILE_NAME).exists() {
            return Err(BundleError::LayersGone { bundle: self.directory.clone(), layers: self.layers.clone() });
        }
        self.check()?;
        let held = cached::hold(&self.layers).map_err(|problem| BundleError::LayersDamaged {
            bundle: self.directory.clone(),
            layers: self.layers.clone(),
            problem,
        })?;
        let upper = UpperDirectories { upper: self.directory.join(UPPER), work: self.directory.join(WORK) };
        Ok((held, MountOptions { upper: Some(upper), ..options }))
    }

    /// Unmounts its root file system, and clears what overlayfs leaves in its work directory, which only root could
    /// remove.
    ///
    /// # Errors
    /// As for [`umount`](crate::mount::umount()), and parts that are links.
    pub fn umount(&self, lazy: bool) -> Result<(), BundleError> {
        self.check()?;
        umount(&self.rootfs(), lazy)?;
        if !lazy {
            for name in ["work", "index"] {
                crate::remove_tree(&self.directory.join(WORK).join(name));
            }
        }
        Ok(())
    }

    /// A bundle may be somebody else's, and its parts links that lead out of it.
    fn check(&self) -> Result<(), BundleError> {
        for name in [ROOTFS, UPPER, WORK] {
            let path = self.directory.join(name);
            if path.is_symlink() {
                let source = std::io::Error::other("it is a symbolic link, which could lead anywhere");
                return Err(BundleError::File { action: "use", path, source });
            }
        }
        Ok(())
    }
}
