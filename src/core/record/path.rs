//! Safe paths: rule N1.
//!
//! Every name that an archive states passes through [`LayerPath::normalise`] once, and nothing behind it looks at
//! raw names again. A `LayerPath` cannot climb, is never absolute, and holds bytes, not text.

use crate::core::text::Printable;
use std::fmt;

/// The longest name that a file system of Linux holds.
const LONGEST: usize = 255;

/// What the name of a whiteout begins with.
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// A path inside a layer: relative to its root, components separated by single `/`, no `.` and no `..`.
///
/// The root itself is the empty path. Bytes are kept as they are; no encoding is assumed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Box<[u8]>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// More `..` than there are components before them.
    #[error("the name climbs above the root")]
    Climbs,
    /// A component of more than 255 bytes, which no Linux file system holds.
    #[error("a component of the name has {0} bytes; file systems hold at most 255")]
    LongComponent(usize),
    /// A whiteout of such a name.
    #[error("a whiteout deletes a name of {0} bytes; file systems hold at most 255")]
    LongWhiteout(usize),
    /// A NUL byte, which ends a string for the kernel.
    #[error("the name holds a NUL byte")]
    Nul,
}

impl LayerPath {
    /// The root of a layer.
    pub fn root() -> Self {
        Self::default()
    }

    /// Makes a name of an archive safe (rule N1): leading, doubled and trailing slashes and `.` are dropped,
    /// `a/../b` is `b`, by the letters alone.
    ///
    /// # Errors
    /// A name that climbs above the root, a component longer than 255 bytes, a NUL byte.
    pub fn normalise(name: &[u8]) -> Result<Self, PathError> {
        Self::read(name, |component| match component.len() {
            0..=LONGEST => Ok(()),
            length => Err(PathError::LongComponent(length)),
        })
    }

    /// The same for the name of an entry, which may be a whiteout: no file has its name, so that it may be longer by
    /// its `.wh.` (rule M3).
    pub(crate) fn of_entry(name: &[u8]) -> Result<Self, PathError> {
        Self::read(name, |component| match component.strip_prefix(WHITEOUT) {
            Some(hidden) if hidden.len() > LONGEST => Err(PathError::LongWhiteout(hidden.len())),
            None if component.len() > LONGEST => Err(PathError::LongComponent(component.len())),
            _ => Ok(()),
        })
    }

    /// The same for the target of a hard link, which is followed as under chroot: above the root is the root (rule N1).
    pub(crate) fn of_link_target(target: &[u8]) -> Result<Self, PathError> {
        let mut depth = 0usize;
        let inside = target.split(|&byte| byte == b'/').filter(|component| {
            match *component {
                b"" | b"." => return false,
                b".." if depth == 0 => return false,
                b".." => depth -= 1,
                _ => depth += 1,
            }
            true
        });
        Self::normalise(&inside.collect::<Vec<_>>().join(&b'/'))
    }

    fn read(name: &[u8], check: impl Fn(&[u8]) -> Result<(), PathError>) -> Result<Self, PathError> {
        if name.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut path: Vec<u8> = Vec::with_capacity(name.len());
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    if path.is_empty() {
                        return Err(PathError::Climbs);
                    }
                    let parent = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    path.truncate(parent);
                }
                _ => {
                    check(component)?;
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        Ok(Self(path.into()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Components that are known to be safe, put together.
    pub(crate) fn of_components<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut path = Vec::new();
        for component in components {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Self(path.into())
    }

    /// The components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The directory that holds this path, and the last component; `None` for the root.
    pub fn split_last(&self) -> Option<(LayerPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (Self(self.0[..slash].into()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0[..]),
        })
    }
}

/// For messages: bytes that are no printable text are escaped, so that a name cannot write to a terminal.
impl fmt::Display for LayerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { formatter.write_str("/") } else { write!(formatter, "{}", Printable(&self.0)) }
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// As it is displayed.
impl serde::Serialize for LayerPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(name: &[u8]) -> Vec<u8> {
        LayerPath::normalise(name).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn n1_dots_and_slashes_are_dropped_and_bytes_kept() {
        assert_eq!(normal(b"./a//b/./c/"), b"a/b/c");
        assert_eq!(normal(b"/a"), b"a");
        assert_eq!(normal(b"a/../b"), b"b");
        assert_eq!(normal(b"a/b/../../c"), b"c");
        assert_eq!(normal(b"./"), b"");
        assert_eq!(normal(b"a/.."), b"");
        assert_eq!(normal(b"\xff\n\\"), b"\xff\n\\");
        assert_eq!(normal(b"..a/..."), b"..a/...");
    }

    #[test]
    fn n1_a_name_that_climbs_is_refused() {
        assert_eq!(LayerPath::normalise(b"../a"), Err(PathError::Climbs));
        assert_eq!(LayerPath::normalise(b"a/../../b"), Err(PathError::Climbs));
        assert_eq!(LayerPath::normalise(b"/.."), Err(PathError::Climbs));
    }

    #[test]
    fn n1_components_are_limited_and_whole_names_are_not() {
        assert_eq!(normal(&[b'x'; 255]).len(), 255);
        assert_eq!(LayerPath::normalise(&[b'x'; 256]), Err(PathError::LongComponent(256)));
        assert_eq!(normal(&b"d/".repeat(5000)).len(), 9999);
    }

    #[test]
    fn m3_a_whiteout_may_hide_the_longest_name() {
        let whiteout = |length| [b"d/.wh.", &vec![b'x'; length][..]].concat();
        assert_eq!(LayerPath::of_entry(&whiteout(255)).unwrap().as_bytes(), whiteout(255));
        assert_eq!(LayerPath::of_entry(&whiteout(256)), Err(PathError::LongWhiteout(256)));
        assert_eq!(LayerPath::of_entry(&[b'x'; 256]), Err(PathError::LongComponent(256)));
        assert_eq!(LayerPath::normalise(&whiteout(255)), Err(PathError::LongComponent(259)));
    }

    #[test]
    fn n1_link_targets_climb_no_higher_than_the_root() {
        let target = |name: &[u8]| LayerPath::of_link_target(name).unwrap().as_bytes().to_vec();
        assert_eq!(target(b"../../etc/passwd"), b"etc/passwd");
        assert_eq!(target(b"/../a/../../b/./c"), b"b/c");
        assert_eq!(target(b"a/../.."), b"");
        assert_eq!(LayerPath::of_link_target(b"../a\0"), Err(PathError::Nul));
    }

    #[test]
    fn names_cannot_write_to_a_terminal() {
        assert_eq!(LayerPath::normalise(b"a\x1b[2J\xff").unwrap().to_string(), "a\\u{1b}[2J\\xff");
    }
}
