//! Sums up differences: how many names were added, removed and changed, and how many bytes, by directory or file.

use hashbrown::HashSet;

use super::difference::{TreeDifference, What};
use super::weight::{OwnBytes, below};
use crate::core::text::Bytes;
use crate::tree::{NodeId, ROOT, Snapshot};

/// Directories deeper than this are not tried as the level of a [summary](Statistics::in_at_most).
const DEEPEST: usize = 16;

/// How many names differ, and bytes of regular files. An inode with several names is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Names that only the second tree has.
    pub added: u64,
    /// Their bytes.
    pub added_bytes: u64,
    /// Names that only the first tree has.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Names that both trees have, and that differ in anything.
    pub changed: u64,
    /// Bytes of the changed files in the first tree.
    pub bytes_before: u64,
    /// Bytes of the changed files in the second tree.
    pub bytes_after: u64,
}

/// One line of a summary.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StatisticsRow {
    /// A name that differs, or, with a slash behind it, a directory with all that differs in it.
    pub path: Bytes,
    /// What differs there.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What differs between two trees, in numbers.
#[derive(Debug)]
pub struct Statistics {
    /// In the order of paths.
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    path: Vec<u8>,
    is_directory: bool,
    tally: Tally,
}

impl Statistics {
    /// Sums up the differences of two trees.
    pub fn of(differences: &[TreeDifference], a: &Snapshot, b: &Snapshot) -> Self {
        let only_a = differences.iter().filter(|one| matches!(one.what, What::OnlyInA { .. }));
        let only_b = differences.iter().filter(|one| matches!(one.what, What::OnlyInB { .. }));
        let mut removed = own_bytes(a, only_a.filter_map(|one| a.find(one.path.as_bytes())).collect());
        let mut added = own_bytes(b, only_b.filter_map(|one| b.find(one.path.as_bytes())).collect());
        let mut before = OwnBytes::new(a, std::iter::empty(), false);
        let mut after = OwnBytes::new(b, std::iter::empty(), false);
        let mut lines: Vec<Line> = Vec::new();
        let mut last_changed: Option<&Bytes> = None;
        for TreeDifference { path, what } in differences {
            let (in_a, in_b) = (a.find(path.as_bytes()), b.find(path.as_bytes()));
            match (what, in_a, in_b) {
                (What::OnlyInA { .. }, Some(id), _) => lines.extend(below(a, id).map(|id| {
                    let tally = Tally { removed: 1, removed_bytes: removed.of(id), ..Tally::default() };
                    Line { path: a.path(id), is_directory: is_directory(a, id), tally }
                })),
                (What::OnlyInB { .. }, _, Some(id)) => lines.extend(below(b, id).map(|id| {
                    let tally = Tally { added: 1, added_bytes: added.of(id), ..Tally::default() };
                    Line { path: b.path(id), is_directory: is_directory(b, id), tally }
                })),
                (_, Some(in_a), Some(in_b)) if last_changed != Some(path) => {
                    last_changed = Some(path);
                    let (bytes_before, bytes_after) = (before.of(in_a), after.of(in_b));
                    let tally = Tally { changed: 1, bytes_before, bytes_after, ..Tally::default() };
                    let is_directory = is_directory(a, in_a) || is_directory(b, in_b);
                    lines.push(Line { path: a.path(in_a), is_directory, tally });
                }
                _ => {}
            }
        }
        Self { lines }
    }

    /// All of it.
    pub fn total(&self) -> Tally {
        self.lines.iter().fold(Tally::default(), |sum, line| sum.plus(line.tally))
    }

    /// What differs, summed up by the directories that are so many levels below the root; names that are not as deep
    /// stand for themselves. Without a depth, every name does.
    pub fn rows(&self, depth: Option<usize>) -> Vec<StatisticsRow> {
        let mut rows: Vec<(&[u8], bool, Tally)> = Vec::new();
        for line in &self.lines {
            let (place, is_directory) = match depth.and_then(|depth| cut(&line.path, depth)) {
                Some(directory) => (directory, true),
                None => (line.path.as_slice(), line.is_directory),
            };
            match rows.last_mut() {
                Some((last, was_directory, tally)) if *last == place => {
                    *was_directory |= is_directory;
                    *tally = tally.plus(line.tally);
                }
                _ => rows.push((place, is_directory, line.tally)),
            }
        }
        let row = |(place, is_directory, tally): (&[u8], bool, Tally)| {
            let slash: &[u8] = if is_directory || place.is_empty() { b"/" } else { b"" };
            StatisticsRow { path: [place, slash].concat().into(), tally }
        };
        rows.into_iter().map(row).collect()
    }

    /// What differs, by name if that are not more rows than `most`, else by the deepest directories of which there are
    /// not more; in the end by those right below the root.
    pub fn in_at_most(&self, most: usize) -> Vec<StatisticsRow> {
        let depths = std::iter::once(None).chain((2..=DEEPEST).rev().map(Some));
        depths.map(|depth| self.rows(depth)).find(|rows| rows.len() <= most).unwrap_or_else(|| self.rows(Some(1)))
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            added: self.added + other.added,
            added_bytes: self.added_bytes.saturating_add(other.added_bytes),
            removed: self.removed + other.removed,
            removed_bytes: self.removed_bytes.saturating_add(other.removed_bytes),
            changed: self.changed + other.changed,
            bytes_before: self.bytes_before.saturating_add(other.bytes_before),
            bytes_after: self.bytes_after.saturating_add(other.bytes_after),
        }
    }
}

/// Counts what only this tree has: below these names.
fn own_bytes(tree: &Snapshot, only: HashSet<NodeId>) -> OwnBytes<'_> {
    let is_asked = !only.is_empty();
    let mut waiting = vec![ROOT];
    let common = std::iter::from_fn(move || {
        let id = waiting.pop()?;
        waiting.extend(tree.children(id).iter().filter(|child| !only.contains(*child)));
        Some(id)
    });
    OwnBytes::new(tree, common, is_asked)
}

fn is_directory(tree: &Snapshot, id: NodeId) -> bool {
    tree.entry(id).kind == crate::tree::TreeKind::Directory
}

/// The first components of a path, if it has more.
fn cut(path: &[u8], components: usize) -> Option<&[u8]> {
    let mut slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    slashes.nth(components.checked_sub(1)?).map(|at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{CompareOptions, differences};
    use crate::tree::SnapshotOptions;
    use std::fs;
    use std::path::Path;

    fn rows(rows: Vec<StatisticsRow>) -> Vec<String> {
        let line = |StatisticsRow { path, tally: t }: StatisticsRow| {
            let (added, removed) = ((t.added, t.added_bytes), (t.removed, t.removed_bytes));
            format!("{path} +{added:?} -{removed:?} ~{} {}..{}", t.changed, t.bytes_before, t.bytes_after)
        };
        rows.into_iter().map(line).collect()
    }

    #[test]
    fn names_and_bytes_are_summed_up_by_directory() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |root: &Path, name: &str, size: usize| {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "x".repeat(size)).unwrap();
        };
        for root in [a.path(), b.path()] {
            write(root, "usr/lib/same", 1);
            write(root, "usr/lib/deep/grown", 3);
        }
        write(b.path(), "usr/lib/deep/grown", 10);
        write(a.path(), "usr/gone/one", 5);
        write(a.path(), "usr/gone/two", 6);
        write(b.path(), "new", 7);
        // One more name of the new file, and of one that was there before: no bytes of their own.
        fs::hard_link(b.path().join("new"), b.path().join("new2")).unwrap();
        fs::hard_link(b.path().join("usr/lib/same"), b.path().join("same")).unwrap();

        let options = CompareOptions { ignore: "mtime,links".parse().unwrap(), ..CompareOptions::default() };
        let take = |root: &Path| Snapshot::take(root, &SnapshotOptions::default()).unwrap();
        let (a, b) = (take(a.path()), take(b.path()));
        let found = differences(&a, &b, &options).unwrap();
        let statistics = Statistics::of(&found, &a, &b);
        assert_eq!(
            rows(statistics.rows(Some(2))),
            [
                "new +(1, 7) -(0, 0) ~0 0..0",
                "new2 +(1, 0) -(0, 0) ~0 0..0",
                "same +(1, 0) -(0, 0) ~0 0..0",
                "usr/gone/ +(0, 0) -(3, 11) ~0 0..0",
                "usr/lib/ +(0, 0) -(0, 0) ~1 3..10",
            ]
        );
        assert_eq!(statistics.in_at_most(100), statistics.rows(None));
        assert_eq!(statistics.in_at_most(5), statistics.rows(Some(2)));
        assert_eq!(statistics.in_at_most(1), statistics.rows(Some(1)));
        let total = statistics.total();
        assert_eq!((total.added, total.added_bytes, total.removed, total.removed_bytes), (3, 7, 3, 11));
        let bytes = |found: &TreeDifference| match found.what {
            What::OnlyInA { bytes, .. } | What::OnlyInB { bytes, .. } => Some(bytes),
            _ => None,
        };
        assert_eq!(found.iter().filter_map(bytes).sum::<u64>(), 18);
    }
}
