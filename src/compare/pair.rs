//! Compares two snapshots.

use super::acl::{self, AclKind};
use super::difference::{TreeDifference, What};
use super::equality::{Contents, Equality};
use super::links::regrouped;
use super::options::CompareOptions;
use super::side::Side;
use super::weight::{OwnBytes, count_below};
use crate::core::text::Bytes;
use crate::tree::{NodeId, ROOT, Snapshot, TreeEntry, TreeError, TreeKind};
use hashbrown::HashMap;

/// Every difference between two trees, sorted by path: a directory before what it holds, siblings by their bytes.
///
/// # Errors
/// A file that cannot be read.
pub fn differences<'a>(
    a: impl Into<Side<'a>>,
    b: impl Into<Side<'a>>,
    options: &CompareOptions,
) -> Result<Vec<TreeDifference>, TreeError> {
    let sides = (a.into(), b.into());
    let mut comparison = Comparison {
        a: sides.0.tree,
        b: sides.1.tree,
        sides,
        options,
        found: Vec::new(),
        only_a: Vec::new(),
        only_b: Vec::new(),
        linkable: Vec::new(),
        contents: Vec::new(),
    };
    comparison.walk();
    comparison.report_only();
    comparison.compare_contents()?;
    if !options.ignore.hard_links {
        comparison.compare_links();
    }
    // stable: at one path, in the order in which they were found
    comparison.found.sort_by_key(|found| found.order);
    Ok(comparison.found.into_iter().map(|found| TreeDifference { path: found.path, what: found.what }).collect())
}

struct Comparison<'s> {
    a: &'s Snapshot,
    b: &'s Snapshot,
    sides: (Side<'s>, Side<'s>),
    options: &'s CompareOptions,
    found: Vec<Found>,
    /// Names that one tree lacks, with their places among all paths.
    only_a: Vec<(usize, NodeId)>,
    only_b: Vec<(usize, NodeId)>,
    /// What both trees have and hard links can name, in the order of paths.
    linkable: Vec<Pair>,
    /// Files of one size, whose contents must be compared.
    contents: Vec<Pair>,
}

/// A difference, and the place of its path among all paths.
struct Found {
    order: usize,
    path: Bytes,
    what: What,
}

/// One path that both trees have, with the same type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    /// Its place among all paths.
    pub(super) order: usize,
    pub(super) a: NodeId,
    pub(super) b: NodeId,
}

/// A name that is still to be looked at.
enum Waiting {
    Both(NodeId, NodeId),
    OnlyA(NodeId),
    OnlyB(NodeId),
}

impl Comparison<'_> {
    /// Visits all paths of both trees in order.
    fn walk(&mut self) {
        let mut waiting = vec![Waiting::Both(ROOT, ROOT)];
        let mut order = 0;
        while let Some(next) = waiting.pop() {
            order += 1;
            match next {
                Waiting::OnlyA(id) => self.only_a.push((order, id)),
                Waiting::OnlyB(id) => self.only_b.push((order, id)),
                Waiting::Both(a, b) => {
                    self.compare(order, a, b);
                    self.push_children(&mut waiting, a, b);
                }
            }
        }
    }

    /// Merges the names of two directories, both sorted, onto the stack, the first one on top.
    fn push_children(&self, waiting: &mut Vec<Waiting>, a: NodeId, b: NodeId) {
        let bottom = waiting.len();
        let mut in_a = self.a.children(a).iter().copied().peekable();
        let mut in_b = self.b.children(b).iter().copied().peekable();
        loop {
            let order = match (in_a.peek(), in_b.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(&a), Some(&b)) => self.a.name(a).cmp(self.b.name(b)),
            };
            let a = if order.is_le() { in_a.next() } else { None };
            let b = if order.is_ge() { in_b.next() } else { None };
            waiting.extend(match (a, b) {
                (Some(a), Some(b)) => Some(Waiting::Both(a, b)),
                (Some(a), None) => Some(Waiting::OnlyA(a)),
                (None, b) => b.map(Waiting::OnlyB),
            });
        }
        waiting[bottom..].reverse();
    }

    /// One path that both trees have.
    fn compare(&mut self, order: usize, in_a: NodeId, in_b: NodeId) {
        let (snapshot_a, snapshot_b) = (self.a, self.b);
        let (a, b) = (snapshot_a.entry(in_a), snapshot_b.entry(in_b));
        let ignore = &self.options.ignore;
        if a.kind.name() != b.kind.name() {
            let what = What::Type { a: a.kind.name(), b: b.kind.name() };
            self.report(order, path(snapshot_a, in_a), what);
            return;
        }
        let pair = Pair { order, a: in_a, b: in_b };
        if !matches!(a.kind, TreeKind::Directory | TreeKind::Ghost) {
            self.linkable.push(pair);
        }
        let mut found = Vec::new();
        if !ignore.mode && a.mode != b.mode && !matches!(a.kind, TreeKind::Symlink { .. }) {
            found.push(What::Mode { a: a.mode, b: b.mode });
        }
        if !ignore.owner && (a.uid, a.gid) != (b.uid, b.gid) {
            found.push(What::Owner { a: (a.uid, a.gid), b: (b.uid, b.gid) });
        }
        if !ignore.mtime && a.mtime != b.mtime {
            found.push(What::Mtime { a: a.mtime, b: b.mtime });
        }
        match (&a.kind, &b.kind) {
            (TreeKind::File { size: a }, TreeKind::File { size: b }) if !ignore.content => {
                if a != b {
                    found.push(What::Size { a: *a, b: *b });
                } else if *a > 0 {
                    self.contents.push(pair);
                }
            }
            (TreeKind::Symlink { target: a }, TreeKind::Symlink { target: b }) if a != b => {
                found.push(What::LinkTarget { a: a.clone().into(), b: b.clone().into() });
            }
            (&TreeKind::CharacterDevice(a, a_minor), &TreeKind::CharacterDevice(b, b_minor))
            | (&TreeKind::BlockDevice(a, a_minor), &TreeKind::BlockDevice(b, b_minor))
                if (a, a_minor) != (b, b_minor) =>
            {
                found.push(What::Device { a: (a, a_minor), b: (b, b_minor) });
            }
            _ => {}
        }
        self.compare_xattrs(a, b, &mut found);
        for what in found {
            self.report(order, path(snapshot_a, in_a), what);
        }
    }

    fn compare_xattrs(&self, a: &TreeEntry, b: &TreeEntry, found: &mut Vec<What>) {
        let (xattrs_a, xattrs_b) = (&a.xattrs, &b.xattrs);
        if xattrs_a == xattrs_b {
            return;
        }
        let mut names: Vec<&[u8]> = xattrs_a.iter().chain(xattrs_b.iter()).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (a, b) = (xattrs_a.get(name), xattrs_b.get(name));
            if a == b || self.options.ignore.xattr(name) {
                continue;
            }
            found.push(match AclKind::of_xattr(name) {
                Some(acl) => What::Acl { acl, a: a.map(acl_text), b: b.map(acl_text) },
                None => What::Xattr { name: name.into(), a: a.map(Bytes::from), b: b.map(Bytes::from) },
            });
        }
    }

    /// Compares the files that could still be equal. An inode with many names is read once.
    fn compare_contents(&mut self) -> Result<(), TreeError> {
        let mut once: HashMap<_, usize> = HashMap::new();
        let mut work: Vec<(NodeId, NodeId)> = Vec::new();
        let mut answer_of: Vec<usize> = Vec::with_capacity(self.contents.len());
        for &pair in &self.contents {
            let inodes = (self.a.entry(pair.a).inode, self.b.entry(pair.b).inode);
            let answer = *once.entry(inodes).or_insert(work.len());
            if answer == work.len() {
                work.push((pair.a, pair.b));
            }
            answer_of.push(answer);
        }
        let (a, b) = self.sides;
        let equality = Equality { a, b, jobs: self.options.jobs, cancel: &self.options.snapshot.cancel };
        let answers = equality.compare(&work)?;
        for (pair, answer) in std::mem::take(&mut self.contents).into_iter().zip(answer_of) {
            if let Contents::Different(offset) = answers[answer] {
                self.report(pair.order, path(self.a, pair.a), What::Content { offset });
            }
        }
        Ok(())
    }

    /// What only one tree has, with the bytes that it has there and nowhere else.
    fn report_only(&mut self) {
        let only_a = std::mem::take(&mut self.only_a);
        let mut bytes = OwnBytes::new(self.a, self.linkable.iter().map(|pair| pair.a), !only_a.is_empty());
        for (order, id) in only_a {
            let (kind, below, bytes) = (self.a.entry(id).kind.name(), count_below(self.a, id), bytes.below(id));
            self.report(order, path(self.a, id), What::OnlyInA { kind, below, bytes });
        }
        let only_b = std::mem::take(&mut self.only_b);
        let mut bytes = OwnBytes::new(self.b, self.linkable.iter().map(|pair| pair.b), !only_b.is_empty());
        for (order, id) in only_b {
            let (kind, below, bytes) = (self.b.entry(id).kind.name(), count_below(self.b, id), bytes.below(id));
            self.report(order, path(self.b, id), What::OnlyInB { kind, below, bytes });
        }
    }

    /// Hard links, each set of them reported at its first name.
    fn compare_links(&mut self) {
        let linkable = std::mem::take(&mut self.linkable);
        let names = |groups: &[Vec<usize>]| -> Vec<Vec<Bytes>> {
            let name = |&index: &usize| path(self.a, linkable[index].a);
            groups.iter().map(|group| group.iter().map(name).collect()).collect()
        };
        let sets = regrouped(self.a, self.b, &linkable);
        let reports: Vec<Found> = sets
            .into_iter()
            .map(|set| {
                let first = linkable[set.first()];
                let what = What::HardLinks { a: names(&set.a), b: names(&set.b) };
                Found { order: first.order, path: path(self.a, first.a), what }
            })
            .collect();
        self.found.extend(reports);
    }

    fn report(&mut self, order: usize, path: Bytes, what: What) {
        self.found.push(Found { order, path, what });
    }
}

/// The path for a report.
fn path(snapshot: &Snapshot, id: NodeId) -> Bytes {
    if id == ROOT { Bytes::from(&b"/"[..]) } else { snapshot.path(id).into() }
}

fn acl_text(value: &[u8]) -> Bytes {
    acl::to_text(value).map_or_else(|| Bytes::from(value), |text| text.into_bytes().into())
}
