//! The runtime configuration as it is before the image says anything: that of `runc spec`, and what differs for those
//! who are not root.
//!
//! The image specification leaves all this to the implementation (conversion.md). template.json is what runc's own
//! template says today (libcontainer/specconv/example.go), but for the terminal, the read-only root and the program,
//! which are the caller's and the image's to choose, and for the version: nothing in it is newer than 1.0.2.

use super::options::Confinement;
use super::runtime::{Mapping, Mount, Namespace, Spec};
use crate::core::idmap::{IdMap, IdMaps};

const TEMPLATE: &str = include_str!("template.json");

/// The default PATH of a shell.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration for a container of that kind. `unified`: whether the host has cgroups of version 2 alone.
pub(super) fn spec(confinement: &Confinement, unified: bool) -> Result<Spec, serde_json::Error> {
    let mut spec: Spec = serde_json::from_str(TEMPLATE)?;
    let rootless = matches!(confinement, Confinement::Rootless(_) | Confinement::Inside);
    if rootless {
        spec.mounts = spec.mounts.into_iter().map(rootless_mount).collect();
    }
    let linux = &mut spec.linux;
    let namespace = |kind: &str| Namespace { kind: kind.to_owned() };
    if unified {
        linux.namespaces.push(namespace("cgroup"));
    }
    if rootless {
        linux.namespaces.retain(|namespace| namespace.kind != "network");
        linux.resources = None;
    }
    if let Some(IdMaps { uids, gids }) = confinement.maps() {
        linux.namespaces.push(namespace("user"));
        (linux.uid_mappings, linux.gid_mappings) = (mappings(uids), mappings(gids));
    }
    Ok(spec)
}

/// As runc's ToRootless: /sys belongs to the network's namespace, which stays the host's, and what a mount says of
/// owners may be an id that is not there.
fn rootless_mount(mut mount: Mount) -> Mount {
    if mount.destination == "/sys" {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        return Mount::new("/sys", "none", "/sys", options);
    }
    if let Some(options) = &mut mount.options {
        options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
    }
    mount
}

fn mappings(map: &IdMap) -> Vec<Mapping> {
    let mapping = |range: &crate::core::idmap::IdRange| Mapping {
        container_id: range.inside,
        host_id: range.outside,
        size: range.count,
    };
    map.ranges().iter().map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(spec: &Spec) -> String {
        spec.linux.namespaces.iter().map(|namespace| namespace.kind.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_each_kind_of_container_has() {
        let root = spec(&Confinement::Root, false).unwrap();
        assert_eq!(namespaces(&root), "pid network ipc uts mount");
        let maps = IdMaps::root(1000, 1000);
        let mapped = spec(&Confinement::Mapped(maps.clone()), true).unwrap();
        assert_eq!(namespaces(&mapped), "pid network ipc uts mount cgroup user");
        assert_eq!(mapped.mounts, root.mounts);

        let rootless = spec(&Confinement::Rootless(maps), false).unwrap();
        assert_eq!(namespaces(&rootless), "pid ipc uts mount user");
        let inside = spec(&Confinement::Inside, false).unwrap();
        assert_eq!(namespaces(&inside), "pid ipc uts mount");
        for spec in [rootless, inside] {
            assert!(spec.linux.resources.is_none());
            let options: Vec<&String> = spec.mounts.iter().flat_map(|mount| mount.options.iter().flatten()).collect();
            assert!(options.iter().any(|option| *option == "rbind"));
            assert!(!options.iter().any(|option| option.starts_with("gid=")), "{options:?}");
        }
    }
}
