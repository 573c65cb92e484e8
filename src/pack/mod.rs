//! Packs a directory tree as a layer: the inverse of unpacking.
//!
//! An overlay mount's upper directory says what changed in the kernel's words: character devices 0:0, and extended
//! attributes. Its layer says the same in the image specification's: `.wh.NAME` and `.wh..wh..opq`. What overlayfs
//! leaves for its own use is dropped, and what was escaped for its sake is unescaped. A directory that was renamed, and
//! a file whose data is still below, can only be packed with the lower directories at hand (kernel,
//! Documentation/filesystems/overlayfs.rst).
//!
//! The other way to a layer is the difference between two whole trees.

mod difference;
mod error;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod inside;
mod upper;
mod write;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::below::{Overlay, take_all};
use crate::core::cancel::Cancel;
use crate::core::filter::Filter;
use crate::core::idmap::IdMaps;
use crate::core::limits::Limits;
use crate::core::overlayfs::XattrNamespace;
use crate::tree::{Snapshot, SnapshotOptions};
use crate::unpack::Loss;

pub use error::PackError;
#[cfg(feature = "containerd")]
pub(crate) use inside::turn as turn_inside;
use write::Packing;

/// How a tree is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// The directories below, topmost first.
    pub lower: Vec<PathBuf>,
    /// What the tree is; told by its whiteouts when `None`.
    pub meaning: Option<Meaning>,
    /// Where its whiteouts are; told by the whiteouts when `None`.
    pub xattr_namespace: Option<XattrNamespace>,
    /// Leave out the entry of the root: whatever gets the layer keeps its own root's mode and owner.
    pub without_root: bool,
    /// The ids of a user namespace in which the tree was written, which has those outside: the layer has those inside.
    pub id_maps: Option<IdMaps>,
    /// Keep `security.selinux`, which is of the system that the tree was on.
    pub selinux: bool,
    /// What is left out or changed on the way.
    pub filter: Filter,
    /// The most that the trees may ask for: of these, memory.
    pub limits: Limits,
    /// Set from another thread or a signal handler to stop early.
    pub cancel: Cancel,
}

/// What a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// Changes, in overlayfs' words.
    Changes,
    /// All that there is: the layer is how it differs from the lower directory.
    Whole,
}

/// What was packed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PackReport {
    /// What the tree was taken for.
    pub meaning: Meaning,
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// Whiteouts, opaque ones included.
    pub whiteouts: u64,
    /// What an archive cannot hold (rule A4).
    pub not_kept: Vec<Loss>,
}

/// Packs a tree as a layer: entries sorted by path, the root's first.
///
/// # Errors
/// A tree that cannot be read whole, whiteouts that cannot be resolved, an output that cannot be written.
pub fn pack(tree: &Path, options: &PackOptions, output: impl Write) -> Result<PackReport, PackError> {
    let read = SnapshotOptions { cancel: options.cancel.clone(), ..SnapshotOptions::default() };
    let own = Snapshot::take(tree, &read)?;
    let namespace = options.xattr_namespace.unwrap_or_else(|| Overlay::namespace_of(&own));
    let overlay = Overlay::new(namespace);
    let meaning = options.meaning.unwrap_or_else(|| match options.lower.as_slice() {
        [] => Meaning::Changes,
        _ if overlay.are_in(&own) => Meaning::Changes,
        _ => Meaning::Whole,
    });
    let trees = take_all(vec![own], &options.lower, &read, &options.limits)?;
    let mut writer = Packing::new(output, &trees, (meaning == Meaning::Changes).then_some(overlay), options);
    match meaning {
        Meaning::Changes => upper::pack(&trees, overlay, &mut writer)?,
        Meaning::Whole => difference::pack(&trees, options, &mut writer)?,
    }
    writer.finish(meaning)
}
