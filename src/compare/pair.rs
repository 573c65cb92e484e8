//! Compares two snapshots.

use super::acl::{self, AclKind};
use super::content::{Reader, Side};
use super::difference::{TreeDifference, What};
use super::links::regrouped;
use super::options::CompareOptions;
use crate::core::text::Bytes;
use crate::parallel;
use crate::tree::{NodeId, ROOT, Snapshot, TreeEntry, TreeError, TreeKind};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Every difference between two trees, sorted by path: a directory before what it holds, siblings by their bytes.
///
/// # Errors
/// A file that cannot be read.
pub fn differences(a: &Snapshot, b: &Snapshot, options: &CompareOptions) -> Result<Vec<TreeDifference>, TreeError> {
    let mut comparison = Comparison { a, b, options, found: Vec::new(), linkable: Vec::new(), contents: Vec::new() };
    comparison.walk();
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
    options: &'s CompareOptions,
    found: Vec<Found>,
    /// What both trees have and hard links can name, in the order of paths.
    linkable: Vec<Pair>,
    /// Files of one size, whose contents must be read.
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
                Waiting::OnlyA(id) => {
                    let what = What::OnlyInA { kind: self.a.entry(id).kind.name(), below: count_below(self.a, id) };
                    self.report(order, path(self.a, id), what);
                }
                Waiting::OnlyB(id) => {
                    let what = What::OnlyInB { kind: self.b.entry(id).kind.name(), below: count_below(self.b, id) };
                    self.report(order, path(self.b, id), what);
                }
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

    /// Reads the files that could still be equal, several pairs at a time. An inode with many names is read once.
    fn compare_contents(&mut self) -> Result<(), TreeError> {
        let mut once: HashMap<_, usize> = HashMap::new();
        let mut work: Vec<Pair> = Vec::new();
        let mut answer_of: Vec<usize> = Vec::with_capacity(self.contents.len());
        for &pair in &self.contents {
            let inodes = (self.a.entry(pair.a).inode, self.b.entry(pair.b).inode);
            let answer = *once.entry(inodes).or_insert(work.len());
            if answer == work.len() {
                work.push(pair);
            }
            answer_of.push(answer);
        }
        let answers = self.read_pairs(&work)?;
        for (pair, answer) in std::mem::take(&mut self.contents).into_iter().zip(answer_of) {
            if let Some(offset) = answers[answer] {
                self.report(pair.order, path(self.a, pair.a), What::Content { offset });
            }
        }
        Ok(())
    }

    /// For each pair, where it differs.
    fn read_pairs(&self, work: &[Pair]) -> Result<Vec<Option<u64>>, TreeError> {
        let order: Vec<usize> = (0..work.len()).collect();
        let jobs = parallel::jobs(self.options.jobs, 0).get();
        let stop = AtomicBool::new(false);
        // Each has buffers of its own, good for any number of pairs.
        let readers: Mutex<Vec<Reader>> = Mutex::new(Vec::new());
        let readers = || readers.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |index: usize| {
            let idle = readers().pop();
            let mut reader = idle.unwrap_or_else(Reader::new);
            let answer = self.read_pair(&mut reader, work[index]);
            readers().push(reader);
            stop.fetch_or(answer.is_err(), Ordering::Relaxed);
            answer
        };
        let answers = parallel::each(&order, jobs, &stop, &read);
        parallel::all(answers, || TreeError::Cancelled, |error| matches!(error, TreeError::Cancelled))
    }

    fn read_pair(&self, reader: &mut Reader, pair: Pair) -> Result<Option<u64>, TreeError> {
        let cancel = &self.options.snapshot.cancel;
        let (a, b) = (self.a.open_file(pair.a)?, self.b.open_file(pair.b)?);
        let answer =
            reader.first_difference(&a, &b, || !cancel.is_cancelled()).map_err(|(side, error)| match side {
                Side::A => self.a.error(pair.a, "read", error),
                Side::B => self.b.error(pair.b, "read", error),
            })?;
        if cancel.is_cancelled() { Err(TreeError::Cancelled) } else { Ok(answer) }
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

fn count_below(snapshot: &Snapshot, id: NodeId) -> u64 {
    let mut count = 0;
    let mut waiting = vec![id];
    while let Some(id) = waiting.pop() {
        let children = snapshot.children(id);
        count += children.len() as u64;
        waiting.extend(children);
    }
    count
}
