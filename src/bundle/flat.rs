//! A bundle with its own copy of the root file system.

use super::error::BundleError;
use super::options::{BundleOptions, Confinement};
use super::rootfs::Rootfs;
use super::write::write_config;
use super::{ROOTFS, Report};
use crate::fs::{Work, open_path};
use crate::image::Image;
use crate::mount::is_mount_point;
use crate::unpack::{Error, Options, Progress, flatten};
use rustix::fs::{AtFlags, Mode};
use std::path::{Path, PathBuf};

/// The directory of the work directory that becomes the bundle.
pub(super) const RESULT: &str = "result";

/// Makes a bundle with the image's flat form as its root file system.
///
/// It appears whole or not at all (rule S2). `directory` must not be there yet, or be empty, unless
/// [`Options::replace`] is set.
///
/// # Errors
/// As for [`flatten`], and an image that does not say what to run, or as whom.
pub fn flat(
    image: &Image,
    directory: &Path,
    lay: &Options,
    bundle: &BundleOptions,
    progress: &dyn Progress,
) -> Result<Report, BundleError> {
    let (work, result) = begin(directory, lay, &bundle.confinement)?;
    // The bundle is synced as a whole.
    let lay = Options { replace: false, no_sync: true, ..lay.clone() };
    let rootfs = result.join(ROOTFS);
    let unpacked = flatten(image, &rootfs, &lay, progress)?;
    let opened = open_path(&rootfs).map_err(|errno| BundleError::File {
        action: "open",
        path: rootfs.clone(),
        source: errno.into(),
    })?;
    let left_out = write_config(image, &Rootfs::new(opened, lay.owners), bundle, &result)?;
    let directory = work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    let (not_kept, repaired) = (Vec::new(), None);
    Ok(Report { directory, unpacked: Some(unpacked), mounted: None, not_kept, repaired, left_out })
}

/// A directory that becomes the bundle, and its path.
///
/// What the image has of setuid files is for the container, not for this machine's other users. The root of a
/// user namespace, who is nobody here, must still be able to pass.
pub(super) fn begin(
    directory: &Path,
    lay: &Options,
    confinement: &Confinement,
) -> Result<(Work, PathBuf), BundleError> {
    if is_mount_point(&directory.join(ROOTFS)) {
        // What is removed with the old bundle would be removed through its mount.
        return Err(BundleError::Mounted(directory.to_owned()));
    }
    let mode = if matches!(confinement, Confinement::Mapped(_)) { 0o711 } else { 0o700 };
    let work = Work::beside(directory, lay.replace, lay.durability()).map_err(Error::from)?;
    let result = work.path().join(RESULT);
    rustix::fs::mkdirat(work.directory(), RESULT, Mode::RWXU)
        .and_then(|()| rustix::fs::chmodat(work.directory(), RESULT, Mode::from_raw_mode(mode), AtFlags::empty()))
        .map_err(|errno| BundleError::File { action: "make", path: result.clone(), source: errno.into() })?;
    Ok((work, result))
}
