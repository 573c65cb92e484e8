//! How snapshots are mounted, and the root directory of those that are to be written to.

use std::io;
use std::path::{Path, PathBuf};

use super::{EMPTY, Kind, Snapshot, Store, UPPER, WORK};
use crate::below::Overlay;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::open_path;
use crate::tree::entry_at;
use crate::unpack::set_root;

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
        if below.is_empty() {
            let options = [if is_view { "ro" } else { "rw" }, "rbind"].map(str::to_owned).to_vec();
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
        let mut options: Vec<String> =
            ["index=off", "redirect_dir=nofollow", "metacopy=off"].map(str::to_owned).to_vec();
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

/// Gives an upper directory the attributes of the root that is below: an overlay shows those of the topmost.
pub(super) fn copy_root(lower: &Path, upper: &Path, namespace: XattrNamespace) -> io::Result<()> {
    let below = entry_at(lower)?;
    let attributes = below.attributes(Overlay::new(namespace).cleaned(&below.xattrs));
    Ok(set_root(open_path(upper)?, &attributes, namespace)?)
}
