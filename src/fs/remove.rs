//! Removing a tree, however deep it is and whatever its modes (rule S7).
//!
//! Another user may own parts of the tree and rename directories while it is removed. So it is walked downwards only,
//! by handles: `..` of a directory that was moved meanwhile would lead to somebody else's files. What lies deeper than
//! the handles that are kept is first moved to the top of the tree. No mount is entered, and no symlink is followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::{openat, openat2};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, chmodat, renameat_with, statx, unlinkat,
};
use rustix::io::{Errno, Result};

use super::{handles, open_directory};

/// Whether to stop in the middle.
pub(super) type Stop<'a> = &'a dyn Fn() -> bool;

/// Handles kept open, where there are as many. What lies deeper is moved up.
const MOST_OPEN: usize = 64;

/// Removes `name` in `parent` and all that is in it. That it is not there is fine.
///
/// # Errors
/// `XDEV` where something is mounted in it; what the kernel refuses to remove.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match open_anyway(&parent, &name) {
        Ok(root) => remove_contents(root)?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    }
    unlinkat(&parent, name.as_c_str(), AtFlags::REMOVEDIR)
}

/// A directory on the way down.
struct Level {
    directory: OwnedFd,
    /// Directories in it that are still to be removed.
    pending: Vec<CString>,
}

/// Removes all that is in a directory, but one file, unless it is stopped.
///
/// # Errors
/// As [`remove_tree`]; `CANCELED`, if it was stopped.
pub(crate) fn remove_contents_but(root: OwnedFd, kept: &CStr, stop: Stop<'_>) -> Result<()> {
    let pending = unlink_files(&root, Some(kept), stop)?;
    remove_directories(Level { pending, directory: root }, stop)
}

/// Removes all that is in a directory.
///
/// # Errors
/// As [`remove_tree`].
pub(crate) fn remove_contents(root: OwnedFd) -> Result<()> {
    let stop: Stop<'_> = &|| false;
    let pending = unlink_files(&root, None, stop)?;
    remove_directories(Level { pending, directory: root }, stop)
}

/// Removes the directories that are still in one.
fn remove_directories(top: Level, stop: Stop<'_>) -> Result<()> {
    let mut moved = 0_u64;
    let most_open = handles(4).clamp(4, MOST_OPEN);
    let mut levels = vec![top];
    while let Some(here) = levels.last() {
        let Some(child) = here.pending.last().cloned() else {
            levels.pop();
            if let Some(above) = levels.last_mut()
                && let Some(done) = above.pending.pop()
            {
                unlinkat(&above.directory, done.as_c_str(), AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let directory = open_anyway(&here.directory, &child)?;
        if levels.len() < most_open {
            levels.push(Level { pending: unlink_files(&directory, None, stop)?, directory });
            continue;
        }
        drop(directory);
        let name = move_up(&levels[most_open - 1].directory, &child, &levels[0].directory, &mut moved)?;
        levels[most_open - 1].pending.pop();
        // Next to last: the last is the one that the walk is in.
        let pending = &mut levels[0].pending;
        pending.insert(pending.len() - 1, name);
    }
    Ok(())
}

/// Moves a directory to the top of the tree, under a name that is free there.
fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, count: &mut u64) -> Result<CString> {
    loop {
        let free = CString::new(format!(".layflat-removed-{count}")).map_err(|_| Errno::INVAL)?;
        *count += 1;
        match renameat_with(from, name, top, free.as_c_str(), rustix::fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // A file system that knows no flags: nothing but a directory that is empty could be replaced.
            Err(Errno::INVAL | Errno::NOSYS) => {
                return rustix::fs::renameat(from, name, top, free.as_c_str()).map(|()| free);
            }
            moved => return moved.map(|()| free),
        }
    }
}

/// Opens a directory although its mode may forbid it to an ordinary user, and makes it writable. It must not be a
/// mount.
fn open_anyway(parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    match open_within(&parent, name) {
        Err(Errno::ACCESS) => {
            let itself = openat(
                &parent,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            // By its number: a name could lead to another file by now.
            chmodat(CWD, format!("/proc/self/fd/{}", itself.as_raw_fd()), Mode::RWXU, AtFlags::empty())?;
            open_within(&parent, name)
        }
        other => other,
    }
}

/// Opens a directory of the same mount.
fn open_within(parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(&parent, name, flags, Mode::empty(), resolve) {
        // A kernel before 5.6, or a filter of system calls that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let directory = open_directory(&parent, name.to_bytes())?;
            if mount_of(&parent)? != mount_of(&directory)? {
                return Err(Errno::XDEV);
            }
            Ok(directory)
        }
        other => other,
    }
}

/// The device and, where the kernel tells it (5.8), the mount that a handle is of.
fn mount_of(directory: impl AsFd) -> Result<(u32, u32, u64)> {
    let status = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    Ok((status.stx_dev_major, status.stx_dev_minor, status.stx_mnt_id))
}

/// Unlinks all files of a directory, but one, and returns the names of its directories.
fn unlink_files(directory: &OwnedFd, kept: Option<&CStr>, stop: Stop<'_>) -> Result<Vec<CString>> {
    let mut directories = Vec::new();
    let mut writable = false;
    for entry in super::entries(directory)? {
        if stop() {
            return Err(Errno::CANCELED);
        }
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || Some(name) == kept {
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
            // Somebody else was quicker.
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
    if !directories.is_empty() && !writable {
        // What is in it must be unlinkable; if the directory is another's, the unlinking will tell.
        let _ = rustix::fs::fchmod(directory, Mode::RWXU);
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::open_path;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A tree of so many directories in one another.
    fn deep(place: &OwnedFd, depth: usize) {
        let mut at = rustix::io::fcntl_dupfd_cloexec(place, 0).unwrap();
        for _ in 0..depth {
            at = crate::fs::make_directory(&at, "d", Mode::RWXU).unwrap();
            openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        }
    }

    #[test]
    fn s7_a_tree_of_any_depth_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let parent = open_path(place.path()).unwrap();
        for depth in [1, MOST_OPEN - 1, MOST_OPEN, MOST_OPEN + 1, 3000] {
            deep(&parent, depth);
            remove_tree(&parent, b"d").unwrap();
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "depth {depth}");
        }
        remove_tree(&parent, b"d").unwrap();
    }

    /// A broad tree below the handles that are kept: every branch of it is moved up.
    #[test]
    fn s7_a_broad_tree_below_a_deep_one_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let parent = open_path(place.path()).unwrap();
        deep(&parent, MOST_OPEN - 2);
        let bottom =
            std::iter::repeat_n("d", MOST_OPEN - 2).fold(place.path().to_owned(), |path, name| path.join(name));
        for branch in ["a", "b", "c", ".layflat-removed-0"] {
            std::fs::create_dir_all(bottom.join(branch).join("1/2/3")).unwrap();
            std::fs::write(bottom.join(branch).join("1/file"), "").unwrap();
        }
        std::fs::create_dir(place.path().join("d/.layflat-removed-1")).unwrap();
        remove_tree(&parent, b"d").unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn s7_what_a_symlink_leads_to_stays() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("other/sub")).unwrap();
        std::fs::create_dir(place.path().join("tree")).unwrap();
        symlink("../other", place.path().join("tree/link")).unwrap();
        symlink("other", place.path().join("link")).unwrap();
        let parent = open_path(place.path()).unwrap();
        remove_tree(&parent, b"tree").unwrap();
        assert!(remove_tree(&parent, b"link").is_err());
        assert!(place.path().join("other/sub").is_dir());
    }

    #[test]
    fn a_mode_that_forbids_it_is_no_hindrance_to_the_owner() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("tree/a/b")).unwrap();
        for name in ["tree/a/b", "tree/a", "tree"] {
            std::fs::set_permissions(place.path().join(name), std::fs::Permissions::from_mode(0o0)).unwrap();
        }
        remove_tree(open_path(place.path()).unwrap(), b"tree").unwrap();
        assert!(!place.path().join("tree").exists());
    }
}
