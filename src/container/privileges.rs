//! What the container's program may do.

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use super::ContainerError;
use crate::bundle::Process;

/// Those of root's capabilities that Podman leaves to a container: what programs need for their own files and users.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Becomes the container's user, for good.
pub(super) fn give_up(process: &Process, note: &dyn Fn(&str)) -> Result<(), ContainerError> {
    let failed = |what: String, error: std::io::Error| ContainerError::Privileges { what, error };
    let without = |errno: Errno| failed("less than root".to_owned(), errno.into());
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !KEPT.contains(capability) => {
                remove_capability_from_bounding_set(capability).map_err(without)?
            }
            Ok(_) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(without(errno)),
        }
    }
    let groups: Vec<Gid> = process.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    match setgroups(&groups) {
        Ok(()) => {}
        // A namespace of one's own id alone does not allow it.
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EINVAL) => {
            if !groups.is_empty() {
                note("left out the supplementary groups of the user, which are not mapped here");
            }
            // Nor is it to have ours.
            match setgroups(&[]) {
                Ok(()) | Err(nix::errno::Errno::EPERM) => {}
                Err(errno) => return Err(failed("a member of no group".to_owned(), errno.into())),
            }
        }
        Err(errno) => return Err(failed("a member of its groups".to_owned(), errno.into())),
    }
    let (uid, gid) = (process.uid, process.gid);
    setgid(Gid::from_raw(gid)).map_err(|errno| failed(format!("group {gid}"), errno.into()))?;
    setuid(Uid::from_raw(uid)).map_err(|errno| failed(format!("user {uid}"), errno.into()))?;
    let left = if uid == 0 { KEPT } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(without)?;
    set_no_new_privs(true).map_err(without)
}
