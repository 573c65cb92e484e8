//! A layer's changes in archive order, without any file's content.

use serde::{Deserialize, Serialize};

use super::{Attributes, NameId, Names};

/// A regular file's content, as an index into what a layer's `Sink` was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentId(pub u32);

/// What one entry of a layer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The path that it is about: for a whiteout what it hides, for an opaque whiteout the directory.
    pub name: NameId,
    /// What is asked for.
    pub kind: ChangeKind,
}

/// The kinds of change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Hide what lies below at this path.
    Whiteout,
    /// Hide all that lies below this directory.
    Opaque,
    /// A directory.
    Directory(Attributes),
    /// A regular file.
    File {
        /// Everything but its content.
        attributes: Attributes,
        /// Bytes of content, holes counted.
        size: u64,
        /// Where its content went.
        content: ContentId,
    },
    /// A regular file that has no name of its own and only serves hard links (AUFS, rule M3).
    LinkSource {
        /// Everything but its content.
        attributes: Attributes,
        /// Bytes of content, holes counted.
        size: u64,
        /// Where its content went.
        content: ContentId,
    },
    /// A symbolic link.
    Symlink {
        /// Everything but its target.
        attributes: Attributes,
        /// The target, as it stands in the archive.
        target: Box<[u8]>,
    },
    /// One more name for a file that is there already; its own attributes are ignored (rule L1).
    HardLink {
        /// The other name.
        target: NameId,
    },
    /// A device node.
    Device {
        /// Everything but what it is.
        attributes: Attributes,
        /// Character or block.
        kind: DeviceKind,
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1048575.
        minor: u32,
    },
    /// A named pipe.
    Fifo(Attributes),
}

/// The kinds of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

impl ChangeKind {
    /// The attributes that the entry states; whiteouts and hard links have none.
    pub fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::Whiteout | Self::Opaque | Self::HardLink { .. } => None,
            Self::Directory(attributes) | Self::Fifo(attributes) => Some(attributes),
            Self::File { attributes, .. }
            | Self::LinkSource { attributes, .. }
            | Self::Symlink { attributes, .. }
            | Self::Device { attributes, .. } => Some(attributes),
        }
    }

    /// Bytes that it holds besides itself.
    pub(crate) fn held(&self) -> u64 {
        let target = if let Self::Symlink { target, .. } = self { target.len() as u64 } else { 0 };
        target + self.attributes().map_or(0, |attributes| attributes.xattrs.held())
    }

    /// Whether overlayfs would take it for a whiteout: a character device 0:0 (rule A6).
    pub fn is_whiteout_device(&self) -> bool {
        matches!(self, Self::Device { kind: DeviceKind::Character, major: 0, minor: 0, .. })
    }
}

/// The version of a record that is kept in a file. Increase it whenever what a record holds changes, be it by a field of
/// an attribute.
pub(crate) const RECORD_VERSION: u32 = 2;

/// All that one layer asks for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// The paths that the changes mention.
    pub names: Names,
    /// The changes, in archive order.
    pub changes: Vec<Change>,
    /// Global PAX headers that were met and ignored (rule T1).
    pub global_headers: u64,
    /// Whether a filter changes what the layer says, or leaves some of it out.
    pub is_filtered: bool,
}

impl Record {
    /// Bytes for each entry, or for each name where there are more: the record, what is known of where its file lies, and the replay.
    /// `scripts/bench --growth` shows that they are enough.
    const EACH: u64 = 300;

    /// Bytes of memory that it takes to unpack and replay this layer, about.
    pub(crate) fn memory(&self) -> u64 {
        let held: u64 = self.changes.iter().map(|change| change.kind.held()).sum();
        self.memory_of_entries() + held
    }

    /// The part of it that the entries and their names take.
    pub(crate) fn memory_of_entries(&self) -> u64 {
        let entries = self.changes.len().max(self.names.len()) as u64;
        entries.saturating_mul(Self::EACH).saturating_add(self.names.length())
    }
}

impl Default for Record {
    fn default() -> Self {
        Self { names: Names::new(), changes: Vec::new(), global_headers: 0, is_filtered: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{LayerPath, Xattrs};

    #[test]
    fn s10_memory_is_that_of_entries_names_and_what_they_hold() {
        let mut record = Record::default();
        let name = record.names.intern_path(&LayerPath::normalise(b"dir/name").unwrap()).unwrap();
        let xattrs = Xattrs::from_iter([(&b"user.k"[..], &[1; 100][..])]);
        let attributes = Attributes { xattrs, ..Attributes::of_unnamed_directory() };
        let kind = ChangeKind::Symlink { attributes, target: b"target".as_slice().into() };
        record.changes.push(Change { name, kind });
        // The root, the directory that has no entry, and the link.
        assert_eq!(record.memory(), 3 * 300 + 7 + 6 + 32 + 6 + 100);
        // Entries may say the same name again.
        record.changes = (0..5).map(|_| Change { name, kind: ChangeKind::Opaque }).collect();
        assert_eq!(record.memory(), 5 * 300 + 7);
    }
}
