//! Unmounting.

use super::error::UnmountError;
use super::fuse::FILE_SYSTEM;
use crate::cache::recorded_at;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// `OVERLAYFS_SUPER_MAGIC`, include/uapi/linux/magic.h.
const OVERLAYFS_MAGIC: u32 = 0x794c_7630;
/// `EROFS_SUPER_MAGIC_V1`, in the same file.
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
/// How often, and after what time each, a mount in use is tried again.
const TRIES: (u32, Duration) = (20, Duration::from_millis(25));

/// Unmounts an overlay or an EROFS; of several on one target the one on top. A lazy unmount takes it out of sight now, and ends it
/// when nothing uses it any more. What is in use is tried again for half a second: a program that has just ended, or is
/// being started by one that read there, still has files open for a moment.
///
/// # Errors
/// A target that is not a mount point of either (nothing is done to it), one that stays in use, and what the kernel refuses. A
/// symbolic link is not a mount point.
pub fn umount(target: &Path, lazy: bool) -> Result<(), UnmountError> {
    let path = || target.to_owned();
    let fuse = check(target)?;
    let records = recorded_at(target);
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    let mut unmounted = unmount(target, flags);
    for _ in 0..TRIES.0 {
        if unmounted != Err(Errno::BUSY) {
            break;
        }
        std::thread::sleep(TRIES.1);
        unmounted = unmount(target, flags);
    }
    let forget = || {
        // One that is detached may be in use for long; this machine finds out when it no longer is.
        for record in records.iter().filter(|_| !lazy) {
            let _ = std::fs::remove_file(record);
        }
    };
    if fuse
        && unmounted == Err(Errno::PERM)
        && let Some(unmounted) = super::fuse::unmount(target, lazy)
    {
        return unmounted.map(|()| forget()).map_err(|source| UnmountError::Refused { path: path(), source });
    }
    unmounted.map(|()| forget()).map_err(|errno| match errno {
        Errno::BUSY => UnmountError::Busy(path()),
        Errno::PERM => UnmountError::NotPermitted(path()),
        // also for a mount of another namespace, but of those only the owner could tell
        Errno::INVAL => UnmountError::NotAMountPoint(path()),
        _ => UnmountError::Refused { path: path(), source: errno.into() },
    })
}

/// Looks before anything is done, and tells whether the mount is one of fuse-overlayfs. What is opened here is closed
/// again, or it would keep the mount busy itself.
fn check(target: &Path) -> Result<bool, UnmountError> {
    let failed = |errno: Errno| UnmountError::Target { path: target.to_owned(), source: errno.into() };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = crate::fs::openat(CWD, target, flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::statx(&opened, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(failed)?;
    // Linux 5.8 tells; before that, umount2 will.
    let known = status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    if known && !status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(UnmountError::NotAMountPoint(target.to_owned()));
    }
    let file_system = rustix::fs::fstatfs(&opened).map_err(failed)?;
    // the type of the field differs by architecture, its value does not
    if matches!(file_system.f_type as u32, OVERLAYFS_MAGIC | EROFS_MAGIC) {
        return Ok(false);
    }
    if is_fuse_overlay(&opened) { Ok(true) } else { Err(UnmountError::NotAnOverlay(target.to_owned())) }
}

/// Whether a mount is one of fuse-overlayfs, by the list of mounts: all of FUSE's have one number.
fn is_fuse_overlay(mount: impl AsFd) -> bool {
    let Ok(status) = rustix::fs::statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) else {
        return false;
    };
    let id = status.stx_mnt_id.to_string();
    // proc(5): the mount's number comes first, and its file system after a dash.
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| {
        mounts
            .lines()
            .filter(|line| line.split(' ').next() == Some(&id))
            .any(|line| line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next()) == Some(FILE_SYSTEM))
    })
}
