//! Limits on what an image may demand: entries, sizes, depth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Names of all layers that are read together, and of the tree that they make; the directories on the way to a name
    /// count, too.
    pub names: u64,
    /// Bytes of the paths of all these names, each written in full.
    pub path_bytes: u64,
    /// Bytes of one PAX header or GNU long name.
    pub extended_header: u64,
    /// Uncompressed bytes for each compressed one, once a layer has grown beyond one gibibyte.
    pub ratio: u64,
    /// Bytes of one manifest, index or configuration.
    pub metadata_size: u64,
    /// Bytes, and files, that overlay layers may hold in copies of what lower layers have (rule L2), for each one that
    /// the image has itself; the first 256 MiB and 10,000 files are free.
    pub copy_up: u64,
    /// Bytes of memory that all layers that are read together, and their replay, are counted to need: 64 MiB, 300 for each
    /// entry, and the bytes of names, of what links point to, and of extended attributes. A decoder may be told of it, too.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 20_000_000,
            layer_size: 1 << 40,
            file_size: 1 << 43,
            name_length: 1 << 17,
            depth: 1024,
            names: 20_000_000,
            path_bytes: 2 << 30,
            extended_header: 1 << 20,
            ratio: 300,
            metadata_size: 32 << 20,
            copy_up: 2,
            memory: u64::MAX,
        }
    }
}

impl Limits {
    /// Below this many uncompressed bytes the ratio is of no interest.
    const RATIO_FROM: u64 = 1 << 30;

    /// What is taken of [`memory`](Self::memory) whatever the layers are: by the program, threads, buffers and decoders.
    pub(crate) const MEMORY_FROM: u64 = 64 << 20;

    /// Whether memory is limited at all, and needs counting.
    pub(crate) fn limit_memory(&self) -> bool {
        self.memory != u64::MAX
    }

    /// How many bytes of records there may be.
    #[cfg(feature = "containerd")]
    pub(crate) fn memory_of_records(&self) -> u64 {
        self.memory.saturating_sub(Self::MEMORY_FROM)
    }

    /// Whether there may be records of so many bytes (`Record::memory`).
    pub(crate) fn check_memory(&self, records: u64) -> Result<(), Exceeded> {
        match records.saturating_add(Self::MEMORY_FROM) > self.memory {
            true => Err(("the memory that the names and attributes of its entries need", self.memory, "memory")),
            false => Ok(()),
        }
    }

    /// Whether so few stored bytes may not become so many.
    pub(crate) fn is_bomb(&self, expanded: u64, stored: u64) -> bool {
        expanded > Self::RATIO_FROM && expanded / self.ratio.max(1) > stored
    }
}

/// A limit that was exceeded: what, how much is allowed, and the limit's name for whoever may raise it.
pub(crate) type Exceeded = (&'static str, u64, &'static str);

impl Limits {
    pub(crate) fn check_names(&self, names: u64, path_bytes: u64) -> Result<(), Exceeded> {
        if names > self.names {
            let what = "the number of names, counting the directories on the way to them,";
            return Err((what, self.names, "names"));
        }
        if path_bytes > self.path_bytes {
            return Err(("the length of all paths together", self.path_bytes, "path-bytes"));
        }
        Ok(())
    }
}

/// Counts the names of layers that are read at the same time: what they ask for together is refused while they are
/// read, not when all of it lies on the disk. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct NameCount(Arc<NameTotals>);

#[derive(Debug, Default)]
struct NameTotals {
    names: AtomicU64,
    path_bytes: AtomicU64,
    memory: AtomicU64,
}

impl NameCount {
    /// Adds some names, and says how many there are by now and how long their paths are.
    pub(crate) fn add(&self, names: u64, path_bytes: u64) -> (u64, u64) {
        let add = |total: &AtomicU64, more| total.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        (add(&self.0.names, names), add(&self.0.path_bytes, path_bytes))
    }

    /// Adds bytes of memory, and says how many there are by now.
    pub(crate) fn add_memory(&self, bytes: u64) -> u64 {
        self.0.memory.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
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
