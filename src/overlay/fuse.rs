//! fuse-overlayfs, for where the kernel has no overlayfs, or none for user namespaces (before 5.11).
//!
//! It obeys the same marks, in either namespace. What an image has in overlay's own namespace stays escaped in such a
//! mount, since only the kernel takes the escape away (rule A7).

use super::context::Failure;
use super::directory::Directory;
use super::error::MountError;
use super::mount::MountRequest;
use super::options::escape;
use super::upper::OpenUpper;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

/// The program, and what its mounts are called in /proc/self/mountinfo.
const PROGRAM: &str = "fuse-overlayfs";
pub(super) const FILE_SYSTEM: &str = "fuse.fuse-overlayfs";

/// Mounts by a process that stays as long as the mount.
pub(super) fn mount(request: &MountRequest, upper: Option<&OpenUpper>, target: &Directory) -> Result<(), Failure> {
    let name = |directory: &Directory| {
        let path = std::path::absolute(directory.path()).unwrap_or_else(|_| directory.path().to_owned());
        escape(path.as_os_str().as_bytes())
    };
    let lower: Vec<Vec<u8>> = request.lower.iter().map(|layer| name(layer.directory())).collect();
    let mut options = [b"lowerdir=", &lower.join(&b':')[..]].concat();
    if let Some(upper) = upper {
        options.extend([b",upperdir=", &name(&upper.upper)[..], b",workdir=", &name(&upper.work)].concat());
    }
    for (wanted, option) in [(request.options.nodev, ",nodev"), (request.options.nosuid, ",nosuid")] {
        if wanted {
            options.extend(option.bytes());
        }
    }
    let output = Command::new(PROGRAM)
        .arg("-o")
        .arg(OsStr::from_bytes(&options))
        .arg(target.path())
        .stdin(Stdio::null())
        .output();
    let refused = |errno, log: String| {
        let step = format!("the mount to {PROGRAM}");
        Failure::Final(MountError::Refused { step, errno, log })
    };
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
