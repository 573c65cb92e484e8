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
use crate::core::text::Printable;
use crate::fs::{look_quietly, mountinfo};
use crate::unpack::OVERRIDE_STAT;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program, and what its mounts are called in /proc/self/mountinfo.
pub(super) const PROGRAM: &str = "fuse-overlayfs";
pub(super) const FILE_SYSTEM: &str = "fuse.fuse-overlayfs";

/// Mounts by a process that stays as long as the mount.
///
/// It gets the directories as open descriptors, by name of /proc/self/fd, as it has no way to write a path with a
/// colon.
pub(super) fn mount(request: &MountRequest, upper: Option<&OpenUpper>, target: &Directory) -> Result<(), Failure> {
    let mut inherited = Inherited::default();
    let mut name = |directory: &Directory| inherited.name(directory).map_err(|error| failed(error.to_string()));
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
    match run(Command::new(PROGRAM).args(["-o", &options]).arg(target.path()), inherited) {
        Ok(ran) if ran.success => Ok(()),
        Ok(ran) => Err(failed(ran.said)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::Unknown(MountError::NoFuse)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Open files and directories that a program inherits.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// A name of the file or directory that holds whatever happens to its path, for the program.
    pub(super) fn name(&mut self, file: impl AsFd) -> io::Result<String> {
        let descriptor = rustix::io::dup(file)?;
        let name = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        self.0.push(descriptor);
        Ok(name)
    }
}

/// What came of a program.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) success: bool,
    /// What it has to say, in one line.
    pub(super) said: String,
}

/// Runs a program that mounts and then stays in the background, as long as the mount.
pub(super) fn run(command: &mut Command, inherited: Inherited) -> io::Result<Ran> {
    // Who interrupts this process is not to end that one when it has mounted and does not serve yet.
    let output = command.stdin(Stdio::null()).process_group(0).output();
    drop(inherited);
    let output = output?;
    Ok(Ran { success: output.status.success(), said: one_line(&output.stderr) })
}

fn one_line(said: &[u8]) -> String {
    let lines = said.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    lines.map(|line| Printable(line).to_string()).collect::<Vec<_>>().join("; ")
}

/// Whether a mount is one of a program's, by the list of mounts: all of FUSE's have one number.
pub(super) fn is_mounted_by(mount: impl AsFd, file_system: &str) -> bool {
    let Ok(status) = look_quietly(mount) else { return false };
    let id = status.stx_mnt_id.to_string();
    // proc(5): the mount's number comes first, and its file system after a dash.
    mountinfo().is_ok_and(|mounts| {
        String::from_utf8_lossy(&mounts)
            .lines()
            .filter(|line| line.split(' ').next() == Some(&id))
            .any(|line| line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next()) == Some(file_system))
    })
}

/// Unmounts as FUSE lets ordinary users do it, by a program that may; `None` where there is none. What is in use is of the kind
/// [`ErrorKind::ResourceBusy`].
pub(super) fn unmount(target: &Path, lazy: bool) -> Option<io::Result<()>> {
    let unmount = |program| {
        let mut command = Command::new(program);
        command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(target);
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().ok()
    };
    let output = unmount("fusermount3").or_else(|| unmount("fusermount"))?;
    Some(if output.status.success() {
        Ok(())
    } else {
        let said = one_line(&output.stderr);
        let kind = if said.contains("busy") { ErrorKind::ResourceBusy } else { ErrorKind::Other };
        Err(io::Error::new(kind, said))
    })
}

/// Whether the owners of a layer's files are in [`OVERRIDE_STAT`].
fn is_recorded(layer: &Directory) -> bool {
    let path = Path::new(&layer.descriptor_path()).join(".");
    xattr::get(path, OVERRIDE_STAT).is_ok_and(|record| record.is_some())
}

fn failed(said: String) -> Failure {
    Failure::Final(MountError::Program { program: PROGRAM, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_one_line() {
        assert_eq!(one_line(b"first\n  second \n\n"), "first; second");
        assert_eq!(one_line(b"\x1b[31m\n"), "\\u{1b}[31m");
    }
}
