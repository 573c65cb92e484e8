//! Finds files by name in all layers, and which later layer deletes or replaces them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use hashbrown::HashSet;
use regex::bytes::{Regex, RegexSet};
use serde::Serialize;

use super::{PathEntry, Traced};
use crate::core::record::{ChangeKind, LayerPath};
use crate::core::stack::{Event, InodeId, Node};

/// What to search for.
#[derive(Debug, Clone)]
pub struct Pattern(PatternKind);

#[derive(Debug, Clone)]
enum PatternKind {
    Globs {
        /// Without a slash: for the last component.
        names: GlobSet,
        /// With one: for the whole path.
        paths: GlobSet,
    },
    Regexes(RegexSet),
}

/// A pattern that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a {kind}: {problem}")]
pub struct PatternError {
    kind: &'static str,
    pattern: String,
    problem: String,
}

impl PatternError {
    fn glob(error: &globset::Error) -> Self {
        let pattern = error.glob().unwrap_or_default().to_owned();
        Self { kind: "glob", pattern, problem: error.kind().to_string() }
    }

    /// The library draws the place of the error below the pattern; the last line says what it is.
    pub(super) fn regex(pattern: &str, error: &regex::Error) -> Self {
        let text = error.to_string();
        let last = text.lines().next_back().unwrap_or_default();
        let problem = last.strip_prefix("error: ").unwrap_or(last).to_owned();
        Self { kind: "regular expression", pattern: pattern.to_owned(), problem }
    }
}

impl Pattern {
    /// Shell patterns: `*` and `?` stand for anything but a slash, `**` for any directories, `[…]` and `{…,…}` as in
    /// shells. One with a slash must match the whole path from the root, any other the last component.
    ///
    /// # Errors
    /// No such pattern.
    pub fn globs<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let whole = pattern.contains('/');
            let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            let glob = glob.map_err(|error| PatternError::glob(&error))?;
            if whole {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let built = |set: GlobSetBuilder| set.build().map_err(|error| PatternError::glob(&error));
        Ok(Self(PatternKind::Globs { names: built(names)?, paths: built(paths)? }))
    }

    /// Regular expressions, each for any part of the whole path, which has no slash before it.
    ///
    /// # Errors
    /// No such expression.
    pub fn regexes<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        let patterns: Vec<&str> = patterns.into_iter().collect();
        for pattern in &patterns {
            Regex::new(pattern).map_err(|error| PatternError::regex(pattern, &error))?;
        }
        // Each can be, but all together may be too large.
        let set = RegexSet::new(&patterns).map_err(|error| PatternError::regex(&patterns.join(" "), &error))?;
        Ok(Self(PatternKind::Regexes(set)))
    }

    /// Whether something of this name may match, whatever its path is.
    fn may_match(&self, name: &[u8]) -> bool {
        match &self.0 {
            PatternKind::Globs { names, paths } => {
                !paths.is_empty() || names.is_match(Path::new(std::ffi::OsStr::from_bytes(name)))
            }
            PatternKind::Regexes(_) => true,
        }
    }

    pub(super) fn matches(&self, path: &LayerPath) -> bool {
        self.is_match(path.as_bytes())
    }

    /// Whether it matches a path, which has no slash before it.
    pub fn is_match(&self, path: &[u8]) -> bool {
        let as_path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
        match &self.0 {
            PatternKind::Globs { names, paths } => {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                names.is_match(as_path(name)) || paths.is_match(as_path(path))
            }
            PatternKind::Regexes(set) => set.is_match(path),
        }
    }
}

/// A path that was found, in the layer that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The layer that put it there, from 0 at the bottom.
    pub in_layer: usize,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// What it is.
    #[serde(flatten)]
    pub entry: PathEntry,
}

/// What later layers did to something that a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// It is visible in the image.
    Visible,
    /// A layer above has something else there.
    Replaced {
        /// Which.
        by: usize,
    },
    /// A layer above deletes it.
    Hidden {
        /// Which.
        by: usize,
    },
    /// Its own layer has something else there, in a later entry (rule N3).
    Overwritten,
}

impl Traced<'_> {
    /// All matches, sorted by path, then by layer; without `all_layers` only visible files.
    pub fn find(&self, pattern: &Pattern, all_layers: bool) -> Vec<Hit> {
        let named = self.events.iter().filter(|event| pattern.may_match(self.inside.stack.place_name(event)));
        let placed = named.map(|event| (self.inside.stack.place(event), event));
        let mut events: Vec<(LayerPath, &Event)> = placed.filter(|(path, _)| pattern.matches(path)).collect();
        events.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut hits = Vec::new();
        for (index, (path, event)) in events.iter().enumerate() {
            let Some(node) = event.now.filter(|&now| !is_same(event.before, now)) else { continue };
            let end = events[index + 1..]
                .iter()
                .take_while(|(later, _)| later == path)
                .map(|(_, later)| later)
                .find(|later| later.now.is_none_or(|now| !is_same(later.before, now)));
            let fate = match end {
                None => Fate::Visible,
                Some(end) if end.now.is_some() => Fate::Replaced { by: end.layer },
                Some(end) => Fate::Hidden { by: end.layer },
            };
            if all_layers || fate == Fate::Visible {
                hits.push(Hit { in_layer: event.layer, fate, entry: self.inside.entry(path.clone(), node, None) });
            }
        }
        if all_layers {
            let overwritten = self.overwritten().into_iter().map(|(_, hit)| hit);
            hits.extend(overwritten.filter(|hit| pattern.matches(&hit.entry.path)));
            hits.sort_by(|one, other| {
                (&one.entry.path, one.in_layer, one.fate).cmp(&(&other.entry.path, other.in_layer, other.fate))
            });
        }
        hits
    }

    /// The files that a later entry of their own layer replaces, so that they were never visible.
    pub(super) fn overwritten(&self) -> Vec<(InodeId, Hit)> {
        let shown: HashSet<_> = self.events.iter().filter_map(|event| event.now).filter_map(leaf).collect();
        let mut hits = Vec::new();
        for inode in self.inside.stack.inodes().filter(|inode| !shown.contains(inode)) {
            let (layer, change) = self.inside.stack.origin(inode);
            if matches!(change.kind, ChangeKind::LinkSource { .. }) {
                continue;
            }
            let path = self.inside.indexes.records[layer].names.path(change.name);
            let entry = self.inside.entry(path, Node::Leaf(inode), None);
            hits.push((inode, Hit { in_layer: layer, fate: Fate::Overwritten, entry }));
        }
        hits
    }
}

fn leaf(node: Node) -> Option<InodeId> {
    match node {
        Node::Leaf(inode) => Some(inode),
        Node::Directory { .. } => None,
    }
}

/// Whether a directory only got other attributes.
fn is_same(before: Option<Node>, now: Node) -> bool {
    match (before, now) {
        (Some(Node::Directory { id: before, .. }), Node::Directory { id: now, .. }) => before == now,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &[u8]) -> LayerPath {
        LayerPath::normalise(name).unwrap()
    }

    #[test]
    fn a_glob_with_a_slash_is_for_the_whole_path() {
        let matches = |pattern: &str, name: &str| Pattern::globs([pattern]).unwrap().matches(&path(name.as_bytes()));
        assert!(matches("*.so", "usr/lib/a.so"));
        assert!(!matches("lib*", "usr/lib/a.so"));
        assert!(matches("/usr/*", "usr/lib"));
        assert!(!matches("/usr/*", "usr/lib/a.so"));
        assert!(!matches("lib/*", "usr/lib/a.so"));
        assert!(matches("**/lib/*", "usr/lib/a.so"));
        assert!(matches("/usr/**", "usr/lib/a.so"));
        assert!(matches("{passwd,shadow}", "etc/shadow"));
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_too() {
        assert!(Pattern::globs(["*.txt"]).unwrap().matches(&path(b"d/\xff.txt")));
        assert!(Pattern::regexes([r"(?-u)\xff"]).unwrap().matches(&path(b"d/\xff.txt")));
        assert!(Pattern::regexes(["^usr/.*a$"]).unwrap().matches(&path(b"usr/lib/a")));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said_once() {
        let glob = Pattern::globs(["*", "[a"]).unwrap_err();
        assert_eq!(glob.to_string(), "\"[a\" is not a glob: unclosed character class; missing ']'");
        let regex = Pattern::regexes(["a", "b("]).unwrap_err();
        assert_eq!(regex.to_string(), "\"b(\" is not a regular expression: unclosed group");
        for error in [glob, regex] {
            assert!(std::error::Error::source(&error).is_none());
        }
    }
}
