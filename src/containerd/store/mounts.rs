//! How snapshots are mounted, and the root directory of those that are to be written to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{EMPTY, Kind, Snapshot, Store, UPPER, WORK};
use crate::below::Overlay;
use crate::core::idmap::IdMaps;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::open_path;
use crate::tree::entry_at;
use crate::unpack::{Owners, set_root};

/// A mount that is to be made, in the words of mount(8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) kind: &'static str,
    pub(crate) source: PathBuf,
    pub(crate) options: Vec<String>,
}

impl Store {
    /// How a snapshot on top of these is mounted, the topmost first.
    ///
    /// A single layer is mounted as an overlay, too: bound as it is, one would see overlayfs' attributes as they are escaped
    /// (rule A7).
    pub(super) fn mounted(&self, snapshot: &Snapshot, below: &[Snapshot]) -> Vec<Mounted> {
        let directory = self.directory(snapshot.number);
        let is_view = snapshot.document.kind == Kind::View;
        // As containerd's own snapshotter says it, and its mounts understand.
        let of_map = |(uids, gids): &(String, String)| [format!("uidmap={uids}"), format!("gidmap={gids}")];
        let mapped: Vec<String> = snapshot.document.id_maps.iter().flat_map(of_map).collect();
        if below.is_empty() {
            let mut options = mapped;
            options.extend([if is_view { "ro" } else { "rw" }, "rbind"].map(str::to_owned));
            return vec![Mounted { kind: "bind", source: directory.join(UPPER), options }];
        }
        let mut lower: Vec<PathBuf> = below
            .iter()
            .enumerate()
            // Those that show nothing count for the kernel's limit on layers (rule O4). One has to be there.
            .filter(|(index, snapshot)| !snapshot.document.is_empty || index + 1 == below.len())
            .map(|(_, snapshot)| self.directory(snapshot.number).join(UPPER))
            .collect();
        if is_view && lower.len() == 1 {
            lower.push(self.root.join(EMPTY));
        }
        // An image's own attributes are escaped. Should one be there all the same, the kernel does not act on it.
        let mut options = mapped;
        options.extend(["index=off", "redirect_dir=nofollow", "metacopy=off"].map(str::to_owned));
        if self.namespace == XattrNamespace::User {
            options.push("userxattr".to_owned());
        }
        if !is_view {
            options.push(format!("workdir={}", directory.join(WORK).display()));
            options.push(format!("upperdir={}", directory.join(UPPER).display()));
        }
        let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        vec![Mounted { kind: "overlay", source: PathBuf::from("overlay"), options }]
    }
}

/// Gives an upper directory the attributes of the root that is below: an overlay shows those of the topmost. With maps it gets
/// the ids outside, and belongs to root where they do not have its owner.
pub(super) fn copy_root(lower: &Path, upper: &Path, namespace: XattrNamespace, maps: Option<IdMaps>) -> io::Result<()> {
    let below = entry_at(lower)?;
    let mut attributes = below.attributes(Overlay::new(namespace).cleaned(&below.xattrs));
    if let Some(maps) = &maps {
        attributes.uid = maps.uids.outside(attributes.uid).map_or(0, |_| attributes.uid);
        attributes.gid = maps.gids.outside(attributes.gid).map_or(0, |_| attributes.gid);
    }
    let owners = maps.map_or(Owners::AsTheyAre, |maps| Owners::Shifted(Arc::new(maps)));
    Ok(set_root(open_path(upper)?, &attributes, namespace, owners)?)
}
