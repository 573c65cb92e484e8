//! Whether a layer's directory is still as it was unpacked, as far as a few calls tell.
//!
//! A name that is added or removed changes the mtime of its directory, and an image's own are long past. Seconds are
//! compared, since copies lose what is finer. Only a layer's root and the directories right in it are looked at: that
//! is where people edit, and mounting must not become a walk through all layers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

/// When directories were last modified, in seconds: by name, the layer's root having none.
pub type Modified = BTreeMap<String, i64>;

/// What is to be remembered of a layer.
pub(crate) fn modified(layer: impl AsFd) -> Result<Modified, Errno> {
    let mut modified = Modified::from([(String::new(), rustix::fs::fstat(&layer)?.st_mtime)]);
    for entry in crate::fs::entries(&layer)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let (Ok(text), false) = (str::from_utf8(name), matches!(name, b"." | b"..")) else {
            continue;
        };
        let stat = statat(&layer, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            modified.insert(text.to_owned(), stat.st_mtime);
        }
    }
    Ok(modified)
}

/// The first directory of a layer that is not as it was remembered.
pub(crate) fn changed(layer: impl AsFd, remembered: &Modified) -> Option<&str> {
    let is_changed = |name: &str, seconds: i64| {
        let name = if name.is_empty() { "." } else { name };
        match statat(&layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat.st_mtime != seconds,
            // The directory is not readable for this user; assume that it is unchanged.
            Err(Errno::ACCESS) => false,
            Err(_) => true,
        }
    };
    remembered.iter().find(|(name, seconds)| is_changed(name, **seconds)).map(|(name, _)| name.as_str())
}
