//! What is mounted where (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags};

/// Whether a directory is the root of what is mounted there. Linux 5.8 tells; before that, nobody asks.
pub(crate) fn is_mount_root(directory: impl AsFd) -> bool {
    look_quietly(directory).is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What the kernel says of a mount's root by itself, the mount's number among it. A program that serves the mount is not asked: it may have died, or be
/// another user's.
pub(crate) fn look_quietly(directory: impl AsFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::empty())
}

/// The list of mounts, of the mount namespace that this thread is in: whoever uses the library may have threads in several.
///
/// # Errors
/// It cannot be read.
pub(crate) fn mountinfo() -> std::io::Result<Vec<u8>> {
    std::fs::read("/proc/thread-self/mountinfo")
}

/// The first mount point strictly below a directory, whose path must be canonical.
///
/// # Errors
/// The list of mounts cannot be read.
pub(crate) fn mounts_below(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    Ok(first_below(&mountinfo()?, directory))
}

/// All mount points strictly below a directory, whose path must be canonical.
///
/// # Errors
/// The list of mounts cannot be read.
pub(crate) fn mounts_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    Ok(all_below(&mountinfo()?, directory).collect())
}

fn first_below(mountinfo: &[u8], directory: &Path) -> Option<PathBuf> {
    all_below(mountinfo, directory).next()
}

fn all_below(mountinfo: &[u8], directory: &Path) -> impl Iterator<Item = PathBuf> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
        .filter(move |point| point != directory && point.starts_with(directory))
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match digits {
            Some(digits) => {
                bytes.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_mounts_below_a_directory_are_found() {
        let info = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /a rw - tmpfs t rw\n3 1 0:3 / /a/b\\040c rw shared:1 - tmpfs t rw\n";
        let below = |path: &str| first_below(info, Path::new(path));
        assert_eq!(below("/a"), Some(PathBuf::from("/a/b c")));
        assert_eq!(below("/"), Some(PathBuf::from("/a")));
        assert_eq!(below("/a/b"), None, "a name that only begins alike");
        assert_eq!(below("/a/b c"), None, "the mount itself");
    }

    #[test]
    fn any_byte_may_stand_in_a_name() {
        assert_eq!(unescaped(b"/a\\134040\\377"), b"/a\\040\xff");
        assert_eq!(unescaped(b"/a\\9"), b"/a\\9");
    }
}
