//! The runtime configuration as it is before the image says anything: that of `runc spec`, and what differs for those who are not
//! root.
//!
//! The image specification leaves all this to the implementation (conversion.md). template.json is what runc's own template says
//! today (libcontainer/specconv/example.go), but for the terminal, the read-only root and the program, which are the
//! caller's and the image's to choose, and for the version: nothing in it is newer than 1.0.2.

use super::options::Confinement;
use crate::ids::{IdMap, IdMaps};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Spec,
};
use std::path::Path;

const TEMPLATE: &str = include_str!("template.json");

/// What a shell has where nobody says anything else.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration for a container of that kind. `unified`: whether the host has cgroups of version 2 alone.
pub(super) fn spec(confinement: &Confinement, unified: bool) -> Result<Spec, OciSpecError> {
    let mut spec: Spec = serde_json::from_str(TEMPLATE)?;
    let rootless = matches!(confinement, Confinement::Rootless(_) | Confinement::Inside);
    if rootless {
        let mounts: Result<Vec<Mount>, _> =
            spec.mounts().iter().flatten().map(|mount| rootless_mount(mount.clone())).collect();
        spec.set_mounts(Some(mounts?));
    }
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        let namespace = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
        if unified {
            namespaces.push(namespace(LinuxNamespaceType::Cgroup)?);
        }
        if rootless {
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
            linux.set_resources(None);
        }
        if let Some(IdMaps { uids, gids }) = confinement.maps() {
            namespaces.push(namespace(LinuxNamespaceType::User)?);
            linux.set_uid_mappings(Some(mappings(uids)?)).set_gid_mappings(Some(mappings(gids)?));
        }
        linux.set_namespaces(Some(namespaces));
    }
    Ok(spec)
}

/// As runc's ToRootless: /sys belongs to the network's namespace, which stays the host's, and what a mount says of owners may
/// be an id that is not there.
fn rootless_mount(mut mount: Mount) -> Result<Mount, OciSpecError> {
    if mount.destination() == Path::new("/sys") {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        return MountBuilder::default().destination("/sys").typ("none").source("/sys").options(options).build();
    }
    let options = mount.options().clone().map(|mut options| {
        options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        options
    });
    mount.set_options(options);
    Ok(mount)
}

fn mappings(map: &IdMap) -> Result<Vec<LinuxIdMapping>, OciSpecError> {
    let mapping = |range: &crate::ids::IdRange| {
        LinuxIdMappingBuilder::default().container_id(range.inside).host_id(range.outside).size(range.count).build()
    };
    map.ranges().iter().map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(spec: &Spec) -> Vec<LinuxNamespaceType> {
        let linux = spec.linux().as_ref().unwrap();
        linux.namespaces().iter().flatten().map(|namespace| namespace.typ()).collect()
    }

    #[test]
    fn what_each_kind_of_container_has() {
        use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
        let root = spec(&Confinement::Root, false).unwrap();
        assert_eq!(namespaces(&root), [Pid, Network, Ipc, Uts, Mount]);
        let maps = IdMaps::root(1000, 1000);
        let mapped = spec(&Confinement::Mapped(maps.clone()), true).unwrap();
        assert_eq!(namespaces(&mapped), [Pid, Network, Ipc, Uts, Mount, Cgroup, User]);
        assert_eq!(mapped.mounts(), root.mounts());

        let rootless = spec(&Confinement::Rootless(maps), false).unwrap();
        assert_eq!(namespaces(&rootless), [Pid, Ipc, Uts, Mount, User]);
        let inside = spec(&Confinement::Inside, false).unwrap();
        assert_eq!(namespaces(&inside), [Pid, Ipc, Uts, Mount]);
        for spec in [rootless, inside] {
            assert!(spec.linux().as_ref().unwrap().resources().is_none());
            let options: Vec<&String> =
                spec.mounts().iter().flatten().flat_map(|mount| mount.options().iter().flatten()).collect();
            assert!(options.iter().any(|option| *option == "rbind"));
            assert!(!options.iter().any(|option| option.starts_with("gid=")), "{options:?}");
        }
    }
}
