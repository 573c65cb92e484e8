//! Whether unpacked layers are all there, as far as a few calls tell, and whether EROFS images and contents are what they were (rule S8).

use std::fs::File;
use std::path::Path;

use crate::fs::openat2;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::file::{Check, Checked, FileSeal};
use super::{FILE_NAME, Layout, LayoutError, changed, read_erofs, read_layout};

/// What is wrong with a directory of unpacked layers: its description, a layer that is missing, one that was changed.
pub(crate) fn damage(directory: &Path) -> Option<String> {
    look(directory).err()
}

/// The description of unpacked layers.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn describe(directory: &Path) -> Result<Layout, String> {
    super::open(directory)
        .and_then(|base| read_layout(&base, directory))
        .map_err(|error| format!("{FILE_NAME}: {}", what_is_wrong_with(&error)))
}

fn look(directory: &Path) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let base = crate::fs::open(directory, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let layout =
        read_layout(&base, directory).map_err(|error| format!("{FILE_NAME}: {}", what_is_wrong_with(&error)))?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for name in &layout.lowerdir {
        let layer = openat2(&base, name.as_str(), flags, Mode::empty(), beneath);
        let layer = match layer {
            // A root that its owner may not read, unless that is root; a filter of system calls that does not know this one.
            Err(Errno::ACCESS | Errno::NOSYS | Errno::PERM) => continue,
            layer => layer.map_err(|error| format!("{name}: {error}"))?,
        };
        if let Some(what) = layout.modified.get(name).and_then(|remembered| changed(&layer, remembered)) {
            return Err(format!("{} was changed", Path::new(name).join(what).display()));
        }
    }
    Ok(())
}

/// What is wrong with a directory of EROFS images: its description, an image, or what lies beside them. What contents lie in elsewhere is not looked at.
pub(crate) fn erofs_damage(directory: &Path, check: &Check) -> Option<String> {
    let layout = super::open(directory).and_then(|base| read_erofs(&base, directory));
    let layout = match layout {
        Ok(Some(layout)) => layout,
        Ok(None) => return Some(format!("{FILE_NAME}: it describes something else")),
        Err(error) => return Some(format!("{FILE_NAME}: {}", what_is_wrong_with(&error))),
    };
    let images = layout.images.iter().map(|image| (image.file.as_str(), &image.seal));
    let devices = layout.devices.iter().map(|device| (device.path.as_str(), &device.seal));
    let own = devices.filter(|(path, _)| directory.join(path).parent() == Some(directory));
    images.chain(own).find_map(|(name, seal)| file_damage(&directory.join(name), Some(seal.clone()), check))
}

/// What is wrong with a file that was sealed.
pub(crate) fn file_damage(path: &Path, seal: Option<FileSeal>, check: &Check) -> Option<String> {
    let name = path.file_name().unwrap_or_default().display();
    let Some(seal) = seal else { return Some(format!("what {name} was is not known")) };
    match File::open(path).and_then(|file| seal.check(&file, check)) {
        Ok(Checked::Same | Checked::Renewed(_)) => None,
        Ok(Checked::Changed) => Some(format!("{name} was changed")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

/// In few words: that it is in the cache is known, and what is done about it is for the caller to say.
fn what_is_wrong_with(error: &LayoutError) -> String {
    match error {
        LayoutError::Missing { .. } => Errno::NOENT.to_string(),
        LayoutError::Unreadable { source, .. } => source.to_string(),
        LayoutError::Malformed { source, .. } => source.to_string(),
        LayoutError::Unknown { .. } => "it is of another version".to_owned(),
        other => other.to_string(),
    }
}
