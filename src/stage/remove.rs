//! Removing a tree of our own, however deep, whatever its modes.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, chmodat, unlinkat};
use rustix::io::{Errno, Result};

use super::descent::{Descent, open_directory};

/// Removes `name` in `parent` and all that is in it. That it is not there is fine.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let root = match open_anyway(&parent, name) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut pending = vec![subdirectories(&root)?];
    let mut entered: Vec<CString> = Vec::new();
    let mut walk = Descent::new(root);
    while let Some(here) = pending.last_mut() {
        if let Some(child) = here.pop() {
            let directory = open_anyway(walk.here(), child.to_bytes())?;
            pending.push(subdirectories(&directory)?);
            walk.enter(directory);
            entered.push(child);
        } else {
            pending.pop();
            if let Some(done) = entered.pop() {
                walk.leave()?;
                unlinkat(walk.here(), done.as_c_str(), AtFlags::REMOVEDIR)?;
            }
        }
    }
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    unlinkat(&parent, name.as_c_str(), AtFlags::REMOVEDIR)
}

/// Opens a directory although its mode may forbid it to an ordinary user, and makes it writable.
fn open_anyway(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    match open_directory(&parent, name) {
        Err(Errno::ACCESS) => {
            let name_c = CString::new(name).map_err(|_| Errno::INVAL)?;
            chmodat(&parent, name_c.as_c_str(), Mode::RWXU, AtFlags::empty())?;
            open_directory(&parent, name)
        }
        other => other,
    }
}

/// Unlinks all files of a directory and returns the names of its directories.
fn subdirectories(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut directories = Vec::new();
    let mut writable = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            directories.push(name.to_owned());
            continue;
        }
        let mut removed = unlinkat(directory, name, AtFlags::empty());
        if removed == Err(Errno::ACCESS) && !writable {
            rustix::fs::fchmod(directory, Mode::RWXU)?;
            writable = true;
            removed = unlinkat(directory, name, AtFlags::empty());
        }
        match removed {
            // A file system that does not tell types in its listing.
            Err(Errno::ISDIR) => directories.push(name.to_owned()),
            other => other?,
        }
    }
    if !directories.is_empty() && !writable {
        // What is in it must be unlinkable; that we may not do this to what is another's shows then.
        let _ = rustix::fs::fchmod(directory, Mode::RWXU);
    }
    Ok(directories)
}
