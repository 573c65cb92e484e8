//! Events: which layer added, replaced or deleted each path.
//!
//! Told while the stack is replayed, since only the view below knows what a layer found there. A path inside a
//! directory that goes has an event of its own, so that the life of every file can be followed by its path alone.

use std::collections::BTreeMap;

use super::view::{Changes, Child, Last, LookupError, Node, Resolved, SlotId};
use super::{InodeId, View};
use crate::core::record::LayerPath;

/// What a layer did to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The layer, from 0 at the bottom.
    pub layer: usize,
    /// The path, with no symlink on the way.
    pub path: LayerPath,
    /// What was there before the layer.
    pub before: Option<Node>,
    /// What is there with it.
    pub now: Option<Node>,
}

/// The stack with one more layer replayed.
#[derive(Debug)]
pub struct Step<'a, 'r> {
    layer: usize,
    view: &'a View<'r>,
    changes: &'a Changes,
}

impl<'a, 'r> Step<'a, 'r> {
    pub(super) fn new(layer: usize, view: &'a View<'r>, changes: &'a Changes) -> Self {
        Self { layer, view, changes }
    }

    /// The layer, from 0 at the bottom.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// What is at a path now, as under chroot.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn resolve(&self, path: &[u8], last: Last) -> Result<Resolved, LookupError> {
        self.view.resolve(path, last)
    }

    /// The whiteouts of the layer that deleted nothing, by their numbers in its record.
    pub fn idle_whiteouts(&self) -> &[usize] {
        &self.changes.idle_whiteouts
    }

    /// What the layer did to each path, sorted by path.
    pub fn events(&self) -> Vec<Event> {
        let (view, changes) = (self.view, self.changes);
        let mut paths: BTreeMap<LayerPath, (Option<Node>, Option<Node>)> = BTreeMap::new();
        let mut pending: Vec<SlotId> = Vec::new();
        for (&slot, &before) in &changes.before {
            let before = match before {
                Child::Nothing => None,
                Child::Leaf(inode) => Some(Node::Leaf(inode)),
                Child::Directory(id) => {
                    let now = view.directory_source(id);
                    let attributes = changes.attributes_before.get(&id).copied().unwrap_or(now);
                    Some(Node::Directory { id, attributes })
                }
            };
            let now = view.node(slot);
            if before == now {
                continue;
            }
            let known = paths.entry(view.slot_path(slot)).or_default();
            *known = (before.or(known.0), now.or(known.1));
            pending.extend(now.is_some().then_some(slot));
        }
        // All that came with new directories.
        while let Some(slot) = pending.pop() {
            let Child::Directory(directory) = view.child(slot) else { continue };
            if !view.is_born_since(directory, changes.since) {
                continue;
            }
            for slot in view.slots_of(directory) {
                if let Some(now) = view.node(slot) {
                    paths.entry(view.slot_path(slot)).or_default().1 = Some(now);
                    pending.push(slot);
                }
            }
        }
        for (&id, &before) in &changes.attributes_before {
            let now = view.directory_source(id);
            let slot = view.directory_slot(id);
            let stays = slot == SlotId::NONE || view.child(slot) == Child::Directory(id);
            if stays && view.attributes(before) != view.attributes(now) {
                let node = |attributes| Some(Node::Directory { id, attributes });
                paths.insert(view.slot_path(slot), (node(before), node(now)));
            }
        }
        let event = |(path, (before, now))| Event { layer: self.layer, path, before, now };
        paths.into_iter().filter(|(_, (before, now))| before != now).map(event).collect()
    }
}

impl Event {
    /// The file that was there before and is not there any more, at this path.
    pub fn lost(&self) -> Option<InodeId> {
        match (self.before, self.now) {
            (Some(Node::Leaf(before)), now) if now != Some(Node::Leaf(before)) => Some(before),
            _ => None,
        }
    }
}
