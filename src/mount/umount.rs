//! Unmounting.

use super::error::UnmountError;
use super::fuse::is_mounted_by;
use super::{erofsfuse, fuse};
use crate::cache::recorded_at;
use crate::fs::look_quietly;
use rustix::fs::{CWD, Mode, OFlags, StatxAttributes};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// `OVERLAYFS_SUPER_MAGIC`, include/uapi/linux/magic.h.
const OVERLAYFS_MAGIC: u32 = 0x794c_7630;
/// `EROFS_SUPER_MAGIC_V1`, in the same file.
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
/// How often, and after what time each, a mount in use is tried again.
const TRIES: (u32, Duration) = (20, Duration::from_millis(25));

/// Unmounts an overlay or an EROFS, whoever serves it: the kernel, fuse-overlayfs or erofsfuse; of several on one target the one on top. A lazy unmount takes it out of sight now, and ends it
/// when nothing uses it any more. What is in use is tried again for half a second: a program that has just ended, or is
/// being started by one that read there, still has files open for a moment.
///
/// # Errors
/// A target that is not a mount point of either (nothing is done to it), one that stays in use, and what the kernel refuses. A
/// symbolic link is not a mount point.
pub fn umount(target: &Path, lazy: bool) -> Result<(), UnmountError> {
    let path = || target.to_owned();
    let by_program = check(target)?;
    let records = recorded_at(target);
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    let once = || match unmount(target, flags) {
        Err(Errno::PERM) if by_program => fuse::unmount(target, lazy).unwrap_or(Err(Errno::PERM.into())),
        done => done.map_err(io::Error::from),
    };
    let is_busy = |error: &io::Error| error.kind() == ErrorKind::ResourceBusy;
    let mut unmounted = once();
    for _ in 0..TRIES.0 {
        if !unmounted.as_ref().is_err_and(is_busy) {
            break;
        }
        std::thread::sleep(TRIES.1);
        unmounted = once();
    }
    unmounted.map_err(|error| match Errno::from_io_error(&error) {
        _ if is_busy(&error) => UnmountError::Busy(path()),
        Some(Errno::PERM) => UnmountError::NotPermitted(path()),
        // also for a mount of another namespace, but of those only the owner could tell
        Some(Errno::INVAL) => UnmountError::NotAMountPoint(path()),
        _ => UnmountError::Refused { path: path(), source: error },
    })?;
    // One that is detached may be in use for long; this machine finds out when it no longer is.
    for record in records.iter().filter(|_| !lazy) {
        let _ = std::fs::remove_file(record);
    }
    Ok(())
}

/// Looks before anything is done, and tells whether a program serves the mount; it may have died, or be another user's. What is opened here is closed
/// again, or it would keep the mount busy itself.
fn check(target: &Path) -> Result<bool, UnmountError> {
    let failed = |errno: Errno| UnmountError::Target { path: target.to_owned(), source: errno.into() };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = crate::fs::openat(CWD, target, flags, Mode::empty()).map_err(failed)?;
    let status = look_quietly(&opened).map_err(failed)?;
    // Linux 5.8 tells; before that, umount2 will.
    let known = status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    if known && !status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(UnmountError::NotAMountPoint(target.to_owned()));
    }
    // the type of the field differs by architecture, its value does not
    if rustix::fs::fstatfs(&opened).is_ok_and(|status| matches!(status.f_type as u32, OVERLAYFS_MAGIC | EROFS_MAGIC)) {
        return Ok(false);
    }
    let by_program = [fuse::FILE_SYSTEM, erofsfuse::FILE_SYSTEM].iter().any(|kind| is_mounted_by(&opened, kind));
    if by_program { Ok(true) } else { Err(UnmountError::NotAnOverlay(target.to_owned())) }
}
