//! Whether unpacked layers are all there, as far as a few calls tell (rule S8).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::fs::{openat, openat2};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{FILE_NAME, Layout, changed};
use crate::core::limits::Limits;

/// What is wrong with a directory of unpacked layers: its description, a layer that is missing, one that was changed.
pub(crate) fn damage(directory: &Path) -> Option<String> {
    look(directory).err()
}

fn look(directory: &Path) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let base = crate::fs::open(directory, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&base, FILE_NAME, file, Mode::empty()).map_err(|error| format!("{FILE_NAME}: {error}"))?;
    let mut text = Vec::new();
    let read = File::from(file).take(Limits::default().metadata_size).read_to_end(&mut text);
    read.map_err(|error| format!("{FILE_NAME}: {error}"))?;
    let layout: Layout = serde_json::from_slice(&text).map_err(|error| format!("{FILE_NAME}: {error}"))?;
    if layout.format != Layout::FORMAT || layout.form != Layout::FORM {
        return Err(format!("{FILE_NAME}: it is of another version"));
    }
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
