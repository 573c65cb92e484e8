//! Options of a comparison.

use crate::tree::SnapshotOptions;
use std::num::NonZero;
use std::str::FromStr;

/// How two trees are compared.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// How each tree is read.
    pub snapshot: SnapshotOptions,
    /// What does not count.
    pub ignore: Ignore,
    /// How many pairs of files are read at the same time; as many as there are processors when `None`.
    pub jobs: Option<NonZero<usize>>,
}

/// What does not count as a difference. The default ignores nothing.
///
/// As text, a list with commas: `mode`, `owner`, `mtime`, `content`, `links` (hard links), `xattr` (all of them) and
/// `xattr:PREFIX`, such as `xattr:security.selinux`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    /// Permission bits.
    pub mode: bool,
    /// User and group.
    pub owner: bool,
    /// Modification times.
    pub mtime: bool,
    /// What files hold, and their sizes.
    pub content: bool,
    /// Which names share an inode.
    pub hard_links: bool,
    /// Extended attributes whose names begin so; an empty prefix means all.
    pub xattr_prefixes: Vec<Vec<u8>>,
}

impl Ignore {
    /// Whether an extended attribute is left out.
    pub fn xattr(&self, name: &[u8]) -> bool {
        self.xattr_prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// A word that names nothing to ignore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot ignore {0:?}: available: mode, owner, mtime, content, links, xattr, xattr:PREFIX")]
pub struct IgnoreError(String);

impl FromStr for Ignore {
    type Err = IgnoreError;

    fn from_str(list: &str) -> Result<Self, IgnoreError> {
        let mut ignore = Self::default();
        for word in list.split(',').filter(|word| !word.is_empty()) {
            match word {
                "mode" => ignore.mode = true,
                "owner" => ignore.owner = true,
                "mtime" => ignore.mtime = true,
                "content" => ignore.content = true,
                "links" => ignore.hard_links = true,
                "xattr" => ignore.xattr_prefixes.push(Vec::new()),
                _ => match word.strip_prefix("xattr:") {
                    Some(prefix) => ignore.xattr_prefixes.push(prefix.into()),
                    None => return Err(IgnoreError(word.to_owned())),
                },
            }
        }
        Ok(ignore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_words_says_what_to_ignore() {
        let ignore: Ignore = "mtime,xattr:user.,owner".parse().unwrap();
        assert!(ignore.mtime && ignore.owner && !ignore.mode && !ignore.hard_links && !ignore.content);
        assert!(ignore.xattr(b"user.k") && !ignore.xattr(b"trusted.k"));
        assert_eq!("".parse::<Ignore>().unwrap(), Ignore::default());
        assert!("xattr".parse::<Ignore>().unwrap().xattr(b"security.capability"));
        assert!("atime".parse::<Ignore>().unwrap_err().to_string().contains("available: mode"));
    }
}
