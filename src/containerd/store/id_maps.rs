//! Snapshots for containers in user namespaces of their own. containerd says with which ids, by labels.
//!
//! Where the snapshotter has the capability `remap-ids`, a snapshot is put on the image itself. Its lower directories are
//! mounted with an id map, by containerd 2.0 and later; its upper directory has the ids outside. Without that
//! capability containerd puts it on a copy of the image that it has given to the ids outside, and says the same labels.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Snapshot as Committed, StoreError, erofs};
use crate::core::cancel::Cancel;
use crate::core::idmap::{IdMap, IdMaps};
use crate::core::text::version;
use crate::fs::{Descent, open_directory, open_path};
use crate::pack::turn_inside;
use crate::tree::{NodeId, ROOT, Snapshot, SnapshotOptions, TreeError, TreeKind};
use crate::unpack::stage::{Capabilities, Subject};
use crate::unpack::{Error, Losses, Options};

/// What containerd calls the maps (core/snapshots, LabelSnapshotUIDMapping).
const UIDS: &str = "containerd.io/snapshot/uidmapping";
const GIDS: &str = "containerd.io/snapshot/gidmapping";
/// What a key ends with under which containerd makes such a copy (its client, resolveSnapshotOptions). Its name is the rest.
const COPY: &str = "-remap";
/// The first kernel whose overlayfs takes lower directories of id-mapped mounts (Linux 5.19, `ovl_upper_mnt_userns`).
const FIRST_KERNEL: (u32, u32) = (5, 19);

/// The maps that labels say, if they do.
pub(super) fn of_labels(labels: &BTreeMap<String, String>) -> Result<Option<IdMaps>, StoreError> {
    let map = |label: &str| -> Result<IdMap, StoreError> {
        let text = labels.get(label).map(String::as_str).unwrap_or_default();
        let map: IdMap = text.parse().map_err(|error| StoreError::Invalid(format!("the label {label}: {error}")))?;
        match map.outside(0) {
            Some(_) => Ok(map),
            None => Err(StoreError::Invalid(format!("the label {label}: {text:?} does not say what root is outside"))),
        }
    };
    match labels.contains_key(UIDS) || labels.contains_key(GIDS) {
        true => Ok(Some(IdMaps { uids: map(UIDS)?, gids: map(GIDS)? })),
        false => Ok(None),
    }
}

/// Whether what is committed by this name is such a copy. Names and keys come as `NAMESPACE/NUMBER/NAME`.
pub(super) fn is_copy(name: &str, key: &str) -> bool {
    let own = |text: &str| text.splitn(3, '/').last().map(str::to_owned);
    own(key).zip(own(name)).is_some_and(|(key, name)| key.strip_suffix(COPY) == Some(name.as_str()))
}

/// Gives what a container has written the ids inside, as the layers below have them. What has them already stays as it is, so that
/// it may be done again.
pub(super) fn turn_back(upper: &Path, maps: &IdMaps, cancel: &Cancel) -> Result<(), Error> {
    let tree = Snapshot::take(upper, &SnapshotOptions { cancel: cancel.clone(), ..SnapshotOptions::default() });
    let tree = tree.map_err(|error| match error {
        TreeError::Cancelled => Error::Cancelled,
        error => Error::Below(error.into()),
    })?;
    let failed = |error: rustix::io::Errno| Error::Io {
        action: format!("cannot change the owners of {upper:?}"),
        error: error.into(),
    };
    let root = open_path(upper).map_err(failed)?;
    let capabilities = Capabilities::probe(root.as_fd(), None, &Options::default()).map_err(failed)?;
    let set = |node: NodeId, subject: Subject<'_>| {
        let entry = tree.entry(node);
        let mut attributes = entry.attributes(entry.xattrs.clone());
        // What they do not have stays as it is: nobody inside sees whose it is.
        let unmapped = turn_inside(&mut attributes, maps);
        match unmapped.owner {
            true => Ok(()),
            false => capabilities.set_again(subject, &attributes, &|| (), &mut Losses::default()),
        }
    };
    let mut walk = Descent::new(root);
    // Directories when all is done that is in them, so that they keep their times.
    let mut levels: Vec<(NodeId, std::slice::Iter<'_, NodeId>)> = vec![(ROOT, tree.children(ROOT).iter())];
    while let Some((directory, children)) = levels.last_mut() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let Some(&child) = children.next() else {
            set(*directory, Subject::Open(walk.here())).map_err(failed)?;
            levels.pop();
            if !levels.is_empty() {
                walk.leave().map_err(failed)?;
            }
            continue;
        };
        let name = tree.name(child);
        match tree.entry(child).kind {
            TreeKind::Directory => {
                walk.enter(open_directory(walk.here(), name).map_err(failed)?);
                levels.push((child, tree.children(child).iter()));
            }
            TreeKind::Ghost => {}
            ref kind => {
                let symlink = matches!(kind, TreeKind::Symlink { .. });
                let subject = Subject::Named { directory: walk.here(), name: OsStr::from_bytes(name), symlink };
                set(child, subject).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Whether an id may be one inside as well as one outside: then nobody can tell which of them a file has.
pub(super) fn overlap(maps: &IdMaps) -> bool {
    let overlap = |map: &IdMap| {
        let ranges = map.ranges();
        let meet = |one: u32, two: u32, (first, second): (u32, u32)| {
            u64::from(one) < u64::from(two) + u64::from(second) && u64::from(two) < u64::from(one) + u64::from(first)
        };
        ranges.iter().any(|one| ranges.iter().any(|two| meet(one.inside, two.outside, (one.count, two.count))))
    };
    overlap(&maps.uids) || overlap(&maps.gids)
}

/// Whether the kernel can mount a snapshot with id-mapped lower directories.
pub(super) fn check_kernel(release: &str) -> Result<(), StoreError> {
    let (major, minor) = FIRST_KERNEL;
    match version(release).is_some_and(|version| version < FIRST_KERNEL) || crate::userns::in_user_namespace() {
        true => Err(StoreError::Precondition(format!(
            "an overlay with id-mapped lower directories needs Linux {major}.{minor} or later, outside of user namespaces, and this is \
             {release:?}: take \"remap-ids\" out of the capabilities of layflat in containerd's configuration"
        ))),
        false => Ok(()),
    }
}

/// Whether containerd can mount these with an id map. It maps the directory above all of them, with whatever is mounted there, and cannot unmount that
/// afterwards (its core/mount, prepareIDMappedOverlay and IDMapMountWithAttrs, in 2.1).
pub(super) fn check_layers(below: &[Committed]) -> Result<(), StoreError> {
    match below.iter().any(erofs::has_image) {
        true => Err(StoreError::Precondition(
            "layers that are kept as EROFS images cannot be mounted with an id map: take \"remap-ids\" out of the capabilities of layflat in \
             containerd's configuration"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_two_maps_or_none() {
        let labels = |pairs: &[(&str, &str)]| {
            of_labels(&pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        assert_eq!(labels(&[("other", "")]).unwrap(), None);
        let maps = labels(&[(UIDS, "0:1000:1,1:100000:65535"), (GIDS, "0:200000:65536")]).unwrap().unwrap();
        assert_eq!((maps.uids.outside(1), maps.gids.outside(1)), (Some(100_000), Some(200_001)));
        for wrong in [&[(UIDS, "0:1:2")][..], &[(UIDS, "0:1:2"), (GIDS, "x")], &[(UIDS, "1:1:2"), (GIDS, "0:1:2")]] {
            assert!(matches!(labels(wrong), Err(StoreError::Invalid(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_containerd_copies_is_known() {
        assert!(is_copy("default/8/sha256:ab", "default/7/sha256:ab-remap"));
        assert!(is_copy("default/8/sha256:ab-100000-200000", "default/7/sha256:ab-100000-200000-remap"));
        assert!(!is_copy("default/8/sha256:ab", "default/7/extract-1 sha256:ab"));
        assert!(!is_copy("default/8/other", "default/7/sha256:ab-remap"));
    }

    #[test]
    fn older_kernels_are_refused() {
        for release in ["5.15.0-91-generic", "5.18", "4.18.0-513.el8.x86_64"] {
            let refused = check_kernel(release).unwrap_err().to_string();
            assert!(refused.contains(release) && refused.contains("remap-ids"), "{refused}");
        }
        if !crate::userns::in_user_namespace() {
            for release in ["5.19.0", "6.1.0-18-amd64", "6.18.44-fc-v669", "10.0"] {
                check_kernel(release).unwrap();
            }
        }
    }
}
