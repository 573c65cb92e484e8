//! Unpacked overlay layers on disk, opened for mounting.

use super::directory::LowerDirectory;
use super::error::MountError;
use crate::core::overlayfs::XattrNamespace;
use crate::lowerdirs::{self, ErofsLayout, FILE_NAME, Layout, LayoutError, changed, read_layout};
use std::os::fd::AsFd as _;
use std::path::Path;

/// The description of EROFS images over contents; nothing if a directory holds unpacked layers.
pub(super) fn read_erofs(directory: &Path) -> Result<Option<ErofsLayout>, MountError> {
    Ok(lowerdirs::read_erofs(lowerdirs::open(directory)?, directory)?)
}

/// Opens the layers of unpacked overlay layers, topmost first. Everything is opened relative to the directory, and no
/// symbolic link in it is followed: what is mounted is what lies there.
pub(super) fn open(directory: &Path) -> Result<(Vec<LowerDirectory>, XattrNamespace), MountError> {
    let base = lowerdirs::open(directory)?;
    let layout = read_layout(&base, directory)?;
    let open = |name: &String| {
        let layer = match Layout::shared_layer(name) {
            Some(_) => LowerDirectory::open_shared(base.as_fd(), directory, name)?,
            None => LowerDirectory::open_beneath(base.as_fd(), directory, name)?,
        };
        match layout.modified.get(name).and_then(|remembered| changed(layer.directory(), remembered)) {
            Some(what) => {
                let changed = directory.join(name).join(what);
                Err(LayoutError::Changed { path: directory.join(FILE_NAME), changed }.into())
            }
            None => Ok(layer),
        }
    };
    let lower: Result<Vec<LowerDirectory>, MountError> = layout.lowerdir.iter().map(open).collect();
    Ok((lower?, layout.xattr_namespace))
}
