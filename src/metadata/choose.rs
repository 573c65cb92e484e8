//! The fastest right way to have an image ready for mounting: EROFS images where the kernel mounts them, else unpacked layers.

use std::path::Path;

use super::cached::{KeptImages, cached};
use super::probe::probe;
use super::{MetadataError, Stacking, Verify};
use crate::image::Image;
use crate::mount::{Method, MountError, may_mount, may_use_erofsfuse};
use crate::unpack::cached::{self as unpacked, CachedLayers};
use crate::unpack::{Loss, Options, Owners, Progress};
use crate::userns::in_user_namespace;

/// What is to be mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// EROFS images if the kernel mounts them, the caller may, and they hold all of the image; else unpacked layers. What the kernel lets the
    /// caller mount not at all is for [`Backend::Erofsfuse`], where [`mountable`] finds that it can be used.
    #[default]
    Fastest,
    /// EROFS images, mounted by the kernel.
    Erofs,
    /// One EROFS image, mounted by erofsfuse, read-only.
    Erofsfuse,
    /// Unpacked layers.
    Overlay,
}

/// How an image is made ready for mounting.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// What is to be mounted.
    pub backend: Backend,
    /// How EROFS images are to be mounted.
    pub stacking: Stacking,
    /// Whether contents are to lie in the user's own archive. Unpacked layers do not do then.
    pub in_place: bool,
    /// What is checked; when `None`, [`Verify::Full`] of an archive in place, and [`Verify::Cached`] of what the cache has.
    pub verify: Option<Verify>,
}

impl How {
    pub(super) fn verify(&self) -> Verify {
        self.verify.unwrap_or(if self.in_place { Verify::Full } else { Verify::Cached })
    }

    /// The form that erofsfuse reads.
    fn for_erofsfuse(&self) -> Result<Stacking, MountError> {
        match self.stacking {
            Stacking::Merged | Stacking::MergedForErofsfuse => Ok(Stacking::MergedForErofsfuse),
            Stacking::MergedBelow | Stacking::Layered => {
                Err(MountError::NoErofsfuse("mounts one image, read-only, and nothing over that".to_owned()))
            }
        }
    }
}

/// What is ready in the cache, and stays there as long as this is held, or as long as it is mounted.
#[derive(Debug)]
pub struct Ready {
    kept: Kept,
    by_erofsfuse: bool,
    why_unpacked: Option<String>,
}

#[derive(Debug)]
enum Kept {
    Images(KeptImages),
    Layers(CachedLayers),
}

impl Ready {
    /// The directory, for [`mount_layout`](crate::mount::mount_layout()).
    pub fn path(&self) -> &Path {
        match &self.kept {
            Kept::Images(images) => images.path(),
            Kept::Layers(layers) => layers.path(),
        }
    }

    /// What of the image is not in it (rule A4).
    pub fn not_kept(&self) -> &[Loss] {
        match &self.kept {
            Kept::Images(images) => images.not_kept(),
            Kept::Layers(layers) => layers.not_kept(),
        }
    }

    /// What was wrong with what was there before, and so was made anew.
    pub fn repaired(&self) -> Option<&str> {
        match &self.kept {
            Kept::Images(_) => None,
            Kept::Layers(layers) => layers.repaired(),
        }
    }

    /// How it is to be mounted, where that makes a difference.
    pub fn method(&self) -> Option<Method> {
        self.by_erofsfuse.then_some(Method::Erofsfuse)
    }

    /// Why the layers were unpacked, where EROFS images were tried first.
    pub fn why_unpacked(&self) -> Option<&str> {
        self.why_unpacked.as_deref()
    }
}

/// What of `how` this process can have mounted, before anything is read for nothing: where the kernel lets it mount nothing, erofsfuse may do.
///
/// # Errors
/// [`MountError::NotPermitted`], [`MountError::NoOverlayfs`] and [`MountError::NoErofsfuse`]; both ways' in [`MountError::NeitherWay`].
pub fn mountable(how: &How, owners: &Owners) -> Result<How, MountError> {
    let by_erofsfuse = || {
        may_use_erofsfuse()?;
        Ok(How { backend: Backend::Erofsfuse, stacking: how.for_erofsfuse()?, ..*how })
    };
    if how.backend == Backend::Erofsfuse {
        return by_erofsfuse();
    }
    match may_mount() {
        Ok(()) => Ok(*how),
        Err(kernel @ MountError::NotPermitted)
            if how.backend == Backend::Fastest && how.stacking == Stacking::Merged && *owners == Owners::AsTheyAre =>
        {
            by_erofsfuse().map_err(|other| MountError::neither(kernel, "erofsfuse", other))
        }
        Err(error) => Err(error),
    }
}

/// Makes an image ready in the cache directory `cache`.
///
/// # Errors
/// As [`cached`](super::cached()) and [`unpack::cached::overlay`](crate::unpack::cached::overlay()).
pub fn ready(
    image: &Image,
    cache: &Path,
    how: &How,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Ready, MetadataError> {
    let unpack = |why_unpacked| {
        let kept = Kept::Layers(unpacked::overlay(image, cache, options, progress)?);
        Ok(Ready { kept, by_erofsfuse: false, why_unpacked })
    };
    let images = |how: &How, by_erofsfuse| {
        let kept = Kept::Images(cached(image, cache, how, options, progress)?);
        Ok(Ready { kept, by_erofsfuse, why_unpacked: None })
    };
    if how.backend == Backend::Erofsfuse {
        return images(&How { stacking: how.for_erofsfuse()?, ..*how }, true);
    }
    let must = how.in_place || how.backend == Backend::Erofs;
    if how.backend == Backend::Overlay && !how.in_place || !must && is_out_of_question(options) {
        return unpack(None);
    }
    // Before all layers are read for nothing.
    match probe(cache).and_then(|()| images(how, false)) {
        Ok(ready) => Ok(ready),
        Err(error) if !must && error.is_unavailable() => unpack(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether nobody who asks for the fastest way means EROFS images.
fn is_out_of_question(options: &Options) -> bool {
    in_user_namespace()
        || !rustix::process::geteuid().is_root()
        || options.xattr_namespace.is_some()
        || options.owners != Owners::AsTheyAre
}
