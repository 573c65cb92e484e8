//! fuse-overlayfs, for where the kernel has no overlayfs, or none for user namespaces (before 5.11).
//!
//! It obeys the same whiteouts, in either namespace. What an image has in overlay's own namespace stays escaped in such
//! a mount, since only the kernel takes the escape away (rule A7). Owners that were recorded instead of given it shows
//! as if they had been given, which the kernel does not.

use super::context::Failure;
use super::directory::Directory;
use super::error::MountError;
use super::request::MountRequest;
use super::upper::OpenUpper;
use crate::unpack::OVERRIDE_STAT;
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program, and what its mounts are called in /proc/self/mountinfo.
const PROGRAM: &str = "fuse-overlayfs";
pub(super) const FILE_SYSTEM: &str = "fuse.fuse-overlayfs";

/// Mounts by a process that stays as long as the mount.
///
/// It gets the directories as open descriptors, by name of /proc/self/fd, as it has no way to write a path with a
/// colon.
pub(super) fn mount(request: &MountRequest, upper: Option<&OpenUpper>, target: &Directory) -> Result<(), Failure> {
    let mut inherited = Vec::new();
    let mut name = |directory: &Directory| {
        let descriptor = rustix::io::dup(directory).map_err(|errno| refused(errno, String::new()))?;
        let name = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        inherited.push(descriptor);
        Ok(name)
    };
    let lower = request.lower.iter().map(|layer| name(layer.directory())).collect::<Result<Vec<_>, Failure>>()?;
    let mut options = format!("lowerdir={}", lower.join(":"));
    if let Some(upper) = upper {
        options += &format!(",upperdir={},workdir={}", name(&upper.upper)?, name(&upper.work)?);
    }
    for (wanted, option) in [
        (request.options.nodev, ",nodev"),
        (request.options.nosuid, ",nosuid"),
        // It shows recorded owners by itself, but only so does it record new ones.
        (request.lower.first().is_some_and(|topmost| is_recorded(topmost.directory())), ",xattr_permissions=2"),
    ] {
        if wanted {
            options.push_str(option);
        }
    }
    let output = Command::new(PROGRAM).args(["-o", &options]).arg(target.path()).stdin(Stdio::null()).output();
    drop(inherited);
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(refused(Errno::IO, said))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::Unknown(MountError::NoFuse)),
        Err(error) => Err(refused(Errno::from_io_error(&error).unwrap_or(Errno::IO), String::new())),
    }
}

/// Unmounts as FUSE lets ordinary users do it, by a program that may; `None` where there is none.
pub(super) fn unmount(target: &Path, lazy: bool) -> Option<Result<(), std::io::Error>> {
    let unmount = |program| {
        let mut command = Command::new(program);
        command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(target).stdin(Stdio::null()).output().ok()
    };
    let output = unmount("fusermount3").or_else(|| unmount("fusermount"))?;
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
    })
}

/// Whether the owners of a layer's files are in [`OVERRIDE_STAT`].
fn is_recorded(layer: &Directory) -> bool {
    let path = Path::new(&layer.descriptor_path()).join(".");
    xattr::get(path, OVERRIDE_STAT).is_ok_and(|record| record.is_some())
}

fn refused(errno: Errno, log: String) -> Failure {
    Failure::Final(MountError::Refused { step: format!("the mount to {PROGRAM}"), errno, log })
}
