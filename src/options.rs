//! What a caller can decide about laying down an image.

use crate::ids::IdMaps;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::filter::Filter;
use crate::fs::Durability;

/// How an image is laid down. The default is what the specification says, with every check on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many layers are read at the same time; when `None`, as many as there are processors, and up to six more that come from a
    /// registry.
    pub jobs: Option<NonZero<usize>>,
    /// Replace a destination that is there and not empty.
    pub replace: bool,
    /// Fail where the destination cannot hold everything (rule A4), instead of reporting it.
    pub strict: bool,
    /// Ignore entries for the root directory, as Docker does (rule N2): 0755, owner 0:0.
    pub ignore_root_entry: bool,
    /// Set `security.selinux` as the image has it (rule A3).
    pub selinux: bool,
    /// Whose the files become.
    pub owners: Owners,
    /// Where overlay marks are written; chosen by privilege when `None` (rule O5).
    pub xattr_namespace: Option<XattrNamespace>,
    /// What is left out or changed on the way.
    pub filter: Filter,
    /// The most that an image may ask for (rule S4).
    pub limits: Limits,
    /// Do not wait until the result is on disk (rule S6). A power loss soon after may leave empty files: for trees that can be made again.
    pub no_sync: bool,
    /// Set from another thread or a signal handler to stop early; nothing is left behind.
    pub cancel: Cancel,
}

impl Options {
    pub(crate) fn durability(&self) -> Durability {
        if self.no_sync { Durability::Unsynced } else { Durability::Synced }
    }
}

/// Whose the files of an image become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Owners {
    /// Whose the image says, where that is allowed.
    #[default]
    AsTheyAre,
    /// As a user namespace with these ids will see them: what the image says is an id inside, and becomes the one outside. That
    /// goes for ACLs and file capabilities, too.
    Shifted(Arc<IdMaps>),
    /// The caller's. Owner and mode are written into [`OVERRIDE_STAT`], for fuse-overlayfs and all that know it.
    Recorded,
}

/// The extended attribute in which containers' tools keep the owner and the mode that a file should have
/// (containers-storage, pkg/idtools).
pub const OVERRIDE_STAT: &str = "user.containers.override_stat";

/// The namespace of the extended attributes that the kernel's overlayfs obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XattrNamespace {
    /// `trusted.overlay.*`: needs CAP_SYS_ADMIN in the initial user namespace.
    Trusted,
    /// `user.overlay.*`: for mounts with `userxattr`, as in a user namespace.
    User,
}

impl XattrNamespace {
    /// What the names of overlayfs' own attributes begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }
}

/// The most that an image may ask for (rule S4). Each has a message of its own when it is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one uncompressed layer.
    pub layer_size: u64,
    /// Bytes of one file, holes counted.
    pub file_size: u64,
    /// Bytes of one name, path and all.
    pub name_length: usize,
    /// Components of one name.
    pub depth: usize,
    /// Bytes of one PAX header or GNU long name.
    pub extended_header: u64,
    /// Uncompressed bytes for each compressed one, once a layer has grown beyond one gibibyte.
    pub ratio: u64,
    /// Bytes of one manifest, index or configuration.
    pub metadata_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 20_000_000,
            layer_size: 1 << 40,
            file_size: 1 << 43,
            name_length: 1 << 17,
            depth: 1024,
            extended_header: 1 << 20,
            ratio: 300,
            metadata_size: 32 << 20,
        }
    }
}

impl Limits {
    /// Below this many uncompressed bytes the ratio is of no interest.
    const RATIO_FROM: u64 = 1 << 30;

    /// Whether so few stored bytes may not become so many.
    pub(crate) fn is_bomb(&self, expanded: u64, stored: u64) -> bool {
        expanded > Self::RATIO_FROM && expanded / self.ratio.max(1) > stored
    }
}

/// Layers that are on their way from elsewhere at the same time, if nobody says how many.
const MOST_WAITING: usize = 6;

/// How many threads do some work, of which so many parts come from elsewhere: as many as were asked for, else as many as there are processors, and
/// some more that wait for the network and leave the processors to the others.
pub(crate) fn jobs(asked: Option<NonZero<usize>>, remote: usize) -> NonZero<usize> {
    let processors = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    asked.unwrap_or_else(|| processors().saturating_add(remote.min(MOST_WAITING)))
}

/// A switch that stops work in progress. Clones share one switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Stops the work.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was stopped.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_large_is_a_bomb() {
        let limits = Limits { ratio: 100, ..Limits::default() };
        assert!(!limits.is_bomb(1 << 30, 1));
        assert!(limits.is_bomb(5 << 30, 50 << 20));
        assert!(!limits.is_bomb(5 << 30, 60 << 20));
    }
}
