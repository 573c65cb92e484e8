//! Options of unpacking.

use crate::core::idmap::IdMaps;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::Waiting;
use crate::core::filter::Filter;
use crate::core::{cancel::Cancel, limits::Limits, overlayfs::XattrNamespace};
use crate::fs::Durability;
use crate::notes::Notes;

/// How an image is unpacked. The default is what the specification says, with every check on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many layers are read at the same time; when `None`, as many as there are processors, and up to six more that
    /// come from a registry.
    pub jobs: Option<NonZero<usize>>,
    /// Replace a destination that is there and not empty.
    pub replace: bool,
    /// Fail where the destination cannot hold everything (rule A4), instead of reporting it.
    pub strict: bool,
    /// Ignore entries for the root directory, as Docker does (rule N2): 0755, owner 0:0.
    pub ignore_root_entry: bool,
    /// Set `security.selinux` as the image has it (rule A3).
    pub selinux: bool,
    /// Ownership of the created files.
    pub owners: Owners,
    /// Where overlayfs whiteouts and opaque directories are written; chosen by privilege when `None` (rule O5).
    pub xattr_namespace: Option<XattrNamespace>,
    /// What is left out or changed on the way.
    pub filter: Filter,
    /// The most that an image may ask for (rule S4).
    pub limits: Limits,
    /// Do not wait until the result is on disk (rule S6). A power loss soon after may leave empty files: for trees that
    /// can be made again.
    pub no_sync: bool,
    /// Another cache, which is looked into as well and never written.
    pub lower_cache: Option<PathBuf>,
    /// Set from another thread or a signal handler to stop early; nothing is left behind.
    pub cancel: Cancel,
    /// Hear what the user should know at once, such as that another process is waited for.
    pub notes: Notes,
}

impl Options {
    pub(crate) fn durability(&self) -> Durability {
        Durability::unless(self.no_sync)
    }

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting::new(self.cancel.clone(), self.notes.clone())
    }
}

/// Whose the files of an image become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Owners {
    /// Whose the image says, where that is allowed.
    #[default]
    AsTheyAre,
    /// As a user namespace with these ids will see them: what the image says is an id inside, and becomes the one
    /// outside. That goes for ACLs and file capabilities, too.
    Shifted(Arc<IdMaps>),
    /// The caller's. Owner and mode are written into [`OVERRIDE_STAT`], for fuse-overlayfs and all that know it.
    Recorded,
}

/// The extended attribute in which containers' tools keep the owner and the mode that a file should have
/// (containers-storage, pkg/idtools).
pub const OVERRIDE_STAT: &str = "user.containers.override_stat";
