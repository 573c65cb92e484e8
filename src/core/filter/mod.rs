//! Filters that a user applies to an image: paths to exclude, owners, times and extended attributes to change.
//!
//! A filter acts in two places and nowhere else, so that every form and every product has it alike. Attributes are
//! changed while a layer is read, before anyone else sees them. Paths are left out of what the replayed stack says a
//! directory must hold: there every path is resolved, so that a symlinked way to an excluded file does not lead around
//! the filter, a file that keeps another name keeps its content, and a deleted file cannot come back because the
//! whiteout that hid it went.

mod globs;

use crate::core::record::{Attributes, LayerPath, Xattrs};
use crate::core::text::Timestamp;

pub use globs::{GlobError, Globs};

/// What is left out, and what is changed. The default leaves everything as it is.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Paths that are left out, directories with all that is in them.
    pub exclude: Globs,
    /// Leave out whiteouts, too, where a pattern matches their own names (`.wh.NAME`), although that brings back what
    /// they hide.
    pub exclude_whiteouts: bool,
    /// The owner of everything, user and group.
    pub owner: Option<(u32, u32)>,
    /// What becomes of times.
    pub times: Option<Times>,
    /// Extended attributes that are left out, by their names.
    pub strip_xattrs: Globs,
}

/// What becomes of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// All are this one.
    Set(i64),
    /// Those that are later are this one.
    Clamp(i64),
}

impl Times {
    /// What a time becomes.
    pub fn apply(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Set(seconds) => Timestamp { seconds, nanoseconds: 0 },
            Self::Clamp(seconds) => time.min(Timestamp { seconds, nanoseconds: 0 }),
        }
    }
}

impl Filter {
    /// Whether everything is left as it is.
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty() && !self.changes_attributes()
    }

    /// Whether attributes may change.
    pub fn changes_attributes(&self) -> bool {
        self.owner.is_some() || self.times.is_some() || !self.strip_xattrs.is_empty()
    }

    /// Whether a path is left out, or a directory that it is in.
    pub fn excludes(&self, path: &LayerPath) -> bool {
        if self.exclude.is_empty() {
            return false;
        }
        let mut above = path.clone();
        while !self.exclude.matches(above.as_bytes()) {
            match above.split_last() {
                Some((parent, _)) => above = parent,
                None => return false,
            }
        }
        true
    }

    /// Changes a file's attributes; whether any are others now.
    pub fn change(&self, attributes: &mut Attributes) -> bool {
        if !self.changes_attributes() {
            return false;
        }
        let before = attributes.clone();
        if let Some((uid, gid)) = self.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        if let Some(times) = self.times {
            attributes.mtime = times.apply(attributes.mtime);
            attributes.atime = times.apply(attributes.atime);
        }
        if !self.strip_xattrs.is_empty() && !attributes.xattrs.is_empty() {
            let kept: Xattrs = attributes.xattrs.iter().filter(|(name, _)| !self.strip_xattrs.matches(name)).collect();
            attributes.xattrs = kept;
        }
        *attributes != before
    }

    /// Whether leaving out what the patterns match would leave out a whiteout and not what it hides: `whiteout` is its
    /// own name, `hidden` what it hides, nothing for an opaque whiteout, which may hide anything beside it.
    pub fn uncovers(&self, whiteout: &LayerPath, hidden: Option<&LayerPath>) -> bool {
        if self.exclude.is_empty() || !self.exclude.matches(whiteout.as_bytes()) {
            return false;
        }
        let Some((parent, _)) = whiteout.split_last() else {
            return false;
        };
        // A pattern that takes in a name that nobody has takes in everything.
        let beside = LayerPath::of_components(parent.components().chain([&b"\x01"[..]]));
        !self.excludes(hidden.unwrap_or(&beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        LayerPath::normalise(name.as_bytes()).unwrap()
    }

    #[test]
    fn times_are_set_or_clamped() {
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        assert_eq!(Times::Set(5).apply(time(-7, 1)), time(5, 0));
        assert_eq!(Times::Clamp(5).apply(time(-7, 1)), time(-7, 1));
        assert_eq!(Times::Clamp(5).apply(time(5, 1)), time(5, 0));
    }

    #[test]
    fn a_mark_may_only_go_with_what_it_hides() {
        let uncovers = |glob: &str, whiteout: &str, hidden: Option<&str>| {
            let filter = Filter { exclude: Globs::paths([glob]).unwrap(), ..Filter::default() };
            filter.uncovers(&path(whiteout), hidden.map(path).as_ref())
        };
        assert!(uncovers("**/.wh.*", "d/.wh.a", Some("d/a")));
        assert!(uncovers("**/.wh.*", "d/.wh..wh..opq", None));
        assert!(!uncovers("d/*", "d/.wh.a", Some("d/a")));
        assert!(!uncovers("d/*", "d/.wh..wh..opq", None));
        assert!(!uncovers("d", "d/.wh.a", Some("d/a")));
        assert!(!uncovers("d/a", "d/.wh.a", Some("d/a")));
    }
}
