//! How much lies below a name: other names, and bytes.

use hashbrown::HashSet;

use crate::tree::{NodeId, Snapshot, TreeKind};

/// How many names lie below one.
pub(super) fn count_below(tree: &Snapshot, id: NodeId) -> u64 {
    below(tree, id).count() as u64 - 1
}

/// A name, and all that lie below it.
pub(super) fn below(tree: &Snapshot, id: NodeId) -> impl Iterator<Item = NodeId> {
    let mut waiting = vec![id];
    std::iter::from_fn(move || {
        let id = waiting.pop()?;
        waiting.extend(tree.children(id).iter().rev());
        Some(id)
    })
}

/// Counts the bytes of files that only one of two trees has: an inode once, and not if one of its names is in both.
pub(super) struct OwnBytes<'s> {
    tree: &'s Snapshot,
    counted: HashSet<(u64, u64)>,
}

impl<'s> OwnBytes<'s> {
    /// `common` are the names that both trees have. They need only be looked at if something `is_asked`.
    pub(super) fn new(tree: &'s Snapshot, common: impl Iterator<Item = NodeId>, is_asked: bool) -> Self {
        let is_file = |id: &NodeId| matches!(tree.entry(*id).kind, TreeKind::File { .. });
        let common = common.take_while(|_| is_asked).filter(is_file).map(|id| tree.entry(id).inode);
        Self { tree, counted: common.collect() }
    }

    /// The bytes of a name alone; none if they were counted before.
    pub(super) fn of(&mut self, id: NodeId) -> u64 {
        let entry = self.tree.entry(id);
        match entry.kind {
            TreeKind::File { size } if self.counted.insert(entry.inode) => size,
            _ => 0,
        }
    }

    /// The bytes of a name and all that lie below it.
    pub(super) fn below(&mut self, id: NodeId) -> u64 {
        let tree = self.tree;
        below(tree, id).map(|id| self.of(id)).fold(0, u64::saturating_add)
    }
}
