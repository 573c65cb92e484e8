//! Whether who asks for mounts sees those that we have made: with a mount namespace of our own it may not, and would take the directory below for the layer.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::fs::{look_quietly, open_path};

/// The number of a mounted file system, as /proc/PID/mountinfo has it.
pub(super) type Device = (u32, u32);

/// Who asks for mounts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Seer {
    /// Nobody but us has to see anything.
    #[default]
    Us,
    Process(i32),
    /// A process that we do not see.
    Hidden,
}

impl Seer {
    /// Who is at the other end of a connection.
    pub(crate) fn process(process: Option<i32>) -> Self {
        // What is in no PID namespace of ours has the number 0.
        process.filter(|&process| process > 0).map_or(Self::Hidden, Self::Process)
    }

    /// Checks that it sees file systems that are mounted; why not.
    pub(super) fn check(&self, devices: &[Device]) -> Result<(), String> {
        let process = match self {
            Self::Us => return Ok(()),
            Self::Process(process) => process,
            Self::Hidden => {
                return Err("layflat-containerd cannot find out whether containerd sees the EROFS images that it mounts: they are in different PID \
                            namespaces; in a container it needs the host's (`hostPID: true`)"
                    .to_owned());
            }
        };
        let seen = std::fs::read(format!("/proc/{process}/mountinfo")).map_err(|error| {
            format!("cannot read which mounts process {process} sees, which asks for some: {error}")
        })?;
        let seen = devices_of(&seen);
        match devices.iter().all(|(major, minor)| seen.contains(format!("{major}:{minor}").as_bytes())) {
            true => Ok(()),
            false => Err("containerd does not see the EROFS images that layflat-containerd mounts, since that has a mount namespace of its own: \
                          its unit must set no option that implies PrivateMounts=, and a container needs Bidirectional mount propagation"
                .to_owned()),
        }
    }
}

/// What is mounted on a directory.
pub(super) fn device_of(directory: &Path) -> io::Result<Device> {
    let status = look_quietly(File::from(open_path(directory)?))?;
    Ok((status.stx_dev_major, status.stx_dev_minor))
}

/// The numbers of all file systems in a list of mounts.
fn devices_of(mountinfo: &[u8]) -> HashSet<&[u8]> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_number() {
        let info = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:21 / /a rw shared:1 - erofs t ro\n";
        assert_eq!(devices_of(info), HashSet::from([&b"0:21"[..], b"8:1"]));
    }

    #[test]
    fn who_cannot_be_looked_at_is_not_trusted_to_see() {
        assert_eq!(Seer::default().check(&[(0, 21)]), Ok(()));
        assert!(Seer::process(None).check(&[]).unwrap_err().contains("hostPID"));
        assert!(Seer::process(Some(0)).check(&[]).is_err());
        let own = Seer::process(Some(i32::try_from(std::process::id()).unwrap()));
        assert_eq!(own.check(&[]), Ok(()));
        assert!(own.check(&[(0, 0)]).unwrap_err().contains("PrivateMounts"));
    }
}
