//! A file's metadata: mode, owner, times, extended attributes.

use crate::core::text::Timestamp;
use serde::{Deserialize, Serialize};

/// Extended attributes by name, sorted by name, each name once. Values are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Xattrs(Box<[Xattr]>);

type Xattr = (Box<[u8]>, Box<[u8]>);

impl Xattrs {
    /// The value of one attribute.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.0.binary_search_by(|(key, _)| key.as_ref().cmp(name)).ok()?;
        Some(&self.0[found].1)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Bytes that they hold.
    pub(crate) fn held(&self) -> u64 {
        /// Two pointers and two lengths.
        const EACH: usize = 32;
        self.0.iter().map(|(name, value)| (EACH + name.len() + value.len()) as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// If a name occurs twice, the last value counts.
impl<N: Into<Box<[u8]>>, V: Into<Box<[u8]>>> FromIterator<(N, V)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let sorted: std::collections::BTreeMap<Box<[u8]>, Box<[u8]>> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }
}

/// Everything that is set on a file besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Numeric owner, 0 to 4294967294.
    pub uid: u32,
    /// Numeric group, 0 to 4294967294.
    pub gid: u32,
    /// Time of the last change of the content.
    pub mtime: Timestamp,
    /// Time of the last access.
    pub atime: Timestamp,
    /// Extended attributes; ACLs among them, as `system.posix_acl_access` and `system.posix_acl_default`.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// What a directory carries that no layer names (rule N5): 0755, owner 0:0, the first second of 1970.
    pub fn of_unnamed_directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            xattrs: Xattrs::default(),
        }
    }
}
