//! How snapshots are mounted, and the root directory of those that are to be written to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::erofs::{is_left_out, needed};
use super::{Kind, Seer, Snapshot, Store, StoreError, TOP, UPPER, WORK, fit};
use crate::below::Overlay;
use crate::core::idmap::{IdMap, IdMaps};
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Attributes;
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
    /// (rule A7). The kernel mounts no single directory (rule O4), so on top of a view is one that has nothing but the attributes
    /// of the root below it. That is also how BuildKit comes to ask for a layer of two views, instead of making one without
    /// extended attributes and fractions of seconds: it does so where one view is the other with one directory more on top
    /// (its util/overlay). And it merges layers (`COPY --link`) only of mounts all of whose options it knows.
    ///
    /// Layers that are EROFS images are mounted by us; who asks must see them.
    pub(super) fn mounted(
        &self,
        snapshot: &Snapshot,
        below: &[Snapshot],
        seer: &Seer,
    ) -> Result<Vec<Mounted>, StoreError> {
        let directory = self.directory(snapshot.number);
        let is_view = snapshot.document.kind == Kind::View;
        // As containerd's own snapshotter says it, and its mounts understand.
        let of_map = |(uids, gids): &(String, String)| [format!("uidmap={uids}"), format!("gidmap={gids}")];
        let mapped: Vec<String> = snapshot.document.id_maps.iter().flat_map(of_map).collect();
        if below.is_empty() {
            let mut options = mapped;
            options.extend([if is_view { "ro" } else { "rw" }, "rbind"].map(str::to_owned));
            return Ok(vec![Mounted { kind: "bind", source: directory.join(UPPER), options }]);
        }
        let needed = needed(below);
        let shown = needed
            .iter()
            .enumerate()
            // Those that show nothing count for the kernel's limit on layers (rule O4). One has to be there.
            .filter(|(index, snapshot)| !is_left_out(snapshot) || index + 1 == needed.len())
            .map(|(_, snapshot)| self.lower_directory(snapshot));
        let top = below.first().filter(|_| is_view).map(|parent| self.directory(parent.number).join(TOP));
        let lower = top.into_iter().chain(shown);
        // An image's own attributes are escaped. Should one be there all the same, the kernel does not act on it: saying
        // `redirect_dir` turns off `metacopy`, too.
        let mut options = mapped;
        options.extend(["index=off", "redirect_dir=nofollow"].map(str::to_owned));
        if self.namespace == XattrNamespace::User {
            options.push("userxattr".to_owned());
        }
        if !is_view {
            options.push(format!("workdir={}", directory.join(WORK).display()));
            options.push(format!("upperdir={}", directory.join(UPPER).display()));
        }
        let lower: Vec<String> = lower.map(|path| path.display().to_string()).collect();
        fit::check(&lower, &options).map_err(StoreError::Precondition)?;
        self.show(needed, seer)?;
        options.push(format!("lowerdir={}", lower.join(":")));
        Ok(vec![Mounted { kind: "overlay", source: PathBuf::from("overlay"), options }])
    }
}

/// Gives an upper directory the attributes of the root that is below: an overlay shows those of the topmost. With maps it gets
/// the ids outside, and belongs to root where they do not have its owner.
pub(super) fn copy_root(lower: &Path, upper: &Path, namespace: XattrNamespace, maps: Option<IdMaps>) -> io::Result<()> {
    let attributes = mapped_root(root_of(lower, namespace)?, maps.as_ref());
    let owners = maps.map_or(Owners::AsTheyAre, |maps| Owners::Shifted(Arc::new(maps)));
    Ok(set_root(open_path(upper)?, &attributes, namespace, owners)?)
}

/// Whether an upper directory's own attributes are still those that it was made with: of the root that is below, or, without
/// one, nobody's. Then a layer of it has nothing to say of the root.
pub(crate) fn is_root_as_made(
    upper: &Path,
    lower: Option<&Path>,
    namespace: XattrNamespace,
    maps: Option<&IdMaps>,
) -> io::Result<bool> {
    let own = root_of(upper, namespace)?;
    let made = match lower {
        Some(lower) => mapped_root(root_of(lower, namespace)?, maps),
        None => Attributes { mtime: own.mtime, atime: own.atime, ..Attributes::of_unnamed_directory() },
    };
    let outside = |map: Option<&IdMap>, id| map.map_or(Some(id), |map| map.outside(id));
    let (uid, gid) = (outside(maps.map(|maps| &maps.uids), made.uid), outside(maps.map(|maps| &maps.gids), made.gid));
    Ok(uid == Some(own.uid) && gid == Some(own.gid) && Attributes { uid: own.uid, gid: own.gid, ..made } == own)
}

/// The same attributes with an owner that the maps have.
fn mapped_root(mut attributes: Attributes, maps: Option<&IdMaps>) -> Attributes {
    if let Some(maps) = maps {
        attributes.uid = maps.uids.outside(attributes.uid).map_or(0, |_| attributes.uid);
        attributes.gid = maps.gids.outside(attributes.gid).map_or(0, |_| attributes.gid);
    }
    attributes
}

fn root_of(directory: &Path, namespace: XattrNamespace) -> io::Result<Attributes> {
    let entry = entry_at(directory)?;
    Ok(entry.attributes(Overlay::new(namespace).cleaned(&entry.xattrs)))
}
