//! One entry of an archive as it is stated, before any rule is applied.

use crate::core::text::Timestamp;

/// The kinds of entry that a layer can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file; types `0`, NUL, `7` and `S`.
    File,
    /// A directory; type `5`, and NUL with a trailing slash.
    Directory,
    /// A symbolic link to `link_name`.
    Symlink,
    /// Another name of the entry `link_name`.
    HardLink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One entry, with the extended headers that belong to it applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The name as the archive has it: neither normalised nor safe.
    pub name: Vec<u8>,
    /// The target of a link as the archive has it.
    pub link_name: Vec<u8>,
    /// The mode field, type bits and all.
    pub mode: i64,
    /// The owner, not yet checked for its range.
    pub uid: i64,
    /// The group, not yet checked for its range.
    pub gid: i64,
    /// Bytes of content once holes are filled; 0 for everything but files.
    pub size: u64,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Time of the last access, where a PAX record states it.
    pub atime: Option<Timestamp>,
    /// Device number, major and minor; 0 for what is not a device. Not yet checked for its range.
    pub device: (i64, i64),
    /// Whether the content has a map of holes.
    pub sparse: bool,
    /// The PAX records of this entry, keys in order, each once, the last of doubled ones; global ones are not among
    /// them.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The value of a PAX record.
    pub fn record(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.records.binary_search_by(|(name, _)| name.as_slice().cmp(key)).ok()?;
        Some(&self.records[found].1)
    }
}
