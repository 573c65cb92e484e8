//! Writes the files of a bundle.

use super::error::BundleError;
use super::options::BundleOptions;
use super::rootfs::Rootfs;
use super::spec;
use crate::image::Image;
use std::path::Path;

/// The runtime configuration (runtime specification, bundle.md).
const CONFIG: &str = "config.json";

/// Writes the runtime configuration, and returns what of the image is not in it.
pub(super) fn write_config(
    image: &Image,
    rootfs: &Rootfs,
    options: &BundleOptions,
    directory: &Path,
) -> Result<Vec<String>, BundleError> {
    let converted = spec::convert(image.config.as_ref(), rootfs, options, is_unified())?;
    let path = directory.join(CONFIG);
    let text = spec::to_json(&converted.spec).map_err(|source| BundleError::Json { path: path.clone(), source })?;
    write(&path, &text)?;
    Ok(converted.left_out)
}

/// Writes a file that is not there yet.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), BundleError> {
    std::fs::write(path, text).map_err(|source| BundleError::File { action: "write", path: path.to_owned(), source })
}

/// Whether this machine has cgroups of version 2 alone, where runtimes give a container a namespace for them.
fn is_unified() -> bool {
    /// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
    const MAGIC: u32 = 0x6367_7270;
    // the type of the field differs by architecture, its value does not
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|status| status.f_type as u32 == MAGIC)
}
