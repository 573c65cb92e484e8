//! Classifies the name of an entry: an ordinary file, a whiteout, or an opaque whiteout (rules M2 and M3).

use crate::core::record::{LayerPath, WHITEOUT};

/// The whiteout that makes the directory that it is in opaque.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
const BOOKKEEPING: &[u8] = b".wh..wh.";
const LINK_SOURCES: &[u8] = b".wh..wh.plnk";

/// What a normalised name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An entry of that name.
    Entry,
    /// Hides this path.
    Whiteout(LayerPath),
    /// Hides all that lies below this directory.
    Opaque(LayerPath),
    /// Bookkeeping of AUFS: of no consequence.
    Bookkeeping,
    /// A file that AUFS keeps as a target for hard links.
    LinkSource,
}

/// A whiteout that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhiteoutError {
    /// `.wh.`, `.wh..` or `.wh...`.
    #[error("a whiteout must name what it deletes; this one would delete the directory itself or its parent")]
    HidesNothing,
    /// `.wh.x/y`.
    #[error("a component of the path is a whiteout, which cannot contain anything")]
    InPath,
}

/// Reads a name as the image specification does (layer.md, "Whiteouts").
pub(crate) fn meaning(path: &LayerPath) -> Result<Meaning, WhiteoutError> {
    let Some((parent, name)) = path.split_last() else {
        return Ok(Meaning::Entry);
    };
    if let Some(whiteout) = parent.components().find(|component| component.starts_with(WHITEOUT)) {
        return match whiteout {
            LINK_SOURCES if !name.starts_with(WHITEOUT) => Ok(Meaning::LinkSource),
            LINK_SOURCES => Ok(Meaning::Bookkeeping),
            OPAQUE => Err(WhiteoutError::InPath),
            _ if whiteout.starts_with(BOOKKEEPING) => Ok(Meaning::Bookkeeping),
            _ => Err(WhiteoutError::InPath),
        };
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(parent));
    }
    if name.starts_with(BOOKKEEPING) {
        return Ok(Meaning::Bookkeeping);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Entry),
        Some(b"" | b"." | b"..") => Err(WhiteoutError::HidesNothing),
        Some(hidden) => Ok(Meaning::Whiteout(LayerPath::of_components(parent.components().chain([hidden])))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &[u8]) -> Result<Meaning, WhiteoutError> {
        meaning(&LayerPath::normalise(name).unwrap())
    }

    fn path(name: &[u8]) -> LayerPath {
        LayerPath::normalise(name).unwrap()
    }

    #[test]
    fn m3_marks_are_told_by_their_names() {
        assert_eq!(of(b"d/.wh.a"), Ok(Meaning::Whiteout(path(b"d/a"))));
        assert_eq!(of(b".wh.a/"), Ok(Meaning::Whiteout(path(b"a"))));
        assert_eq!(of(b"d/.wh..wh..opq"), Ok(Meaning::Opaque(path(b"d"))));
        assert_eq!(of(b".wh..wh..opq"), Ok(Meaning::Opaque(LayerPath::root())));
        assert_eq!(of(b".wh..hidden"), Ok(Meaning::Whiteout(path(b".hidden"))));
        assert_eq!(of(b".wh"), Ok(Meaning::Entry));
        assert_eq!(of(b"a.wh.b"), Ok(Meaning::Entry));
        assert_eq!(of(b"./"), Ok(Meaning::Entry));
    }

    #[test]
    fn m3_malformed_marks_are_errors() {
        for name in [&b".wh."[..], b"d/.wh..", b"d/.wh...", b".wh./"] {
            assert_eq!(of(name), Err(WhiteoutError::HidesNothing));
        }
        for name in [&b".wh.a/b"[..], b"d/.wh.a/b/c", b"d/.wh..wh..opq/x"] {
            assert_eq!(of(name), Err(WhiteoutError::InPath));
        }
    }

    #[test]
    fn m3_aufs_bookkeeping_is_dropped_but_for_link_sources() {
        assert_eq!(of(b".wh..wh.aufs"), Ok(Meaning::Bookkeeping));
        assert_eq!(of(b".wh..wh.orph/x/y"), Ok(Meaning::Bookkeeping));
        assert_eq!(of(b".wh..wh.plnk"), Ok(Meaning::Bookkeeping));
        assert_eq!(of(b".wh..wh.plnk/12.34"), Ok(Meaning::LinkSource));
    }
}
