//! Events: which layer added, replaced or deleted each path.
//!
//! Told while the stack is replayed, since only the view below knows what a layer found there. A path inside a
//! directory that goes has an event of its own, so that the life of every file can be followed by its path alone.

use hashbrown::HashSet;

use super::view::{Changes, Child, DirectoryId, Last, LookupError, Node, Resolved, SlotId};
use super::{InodeId, View};
use crate::core::record::LayerPath;

/// What a layer did to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The layer, from 0 at the bottom.
    pub layer: usize,
    /// Where: [`Stack::place`](super::Stack::place) has the path.
    pub(super) place: SlotId,
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

    /// Where something happened, with no symlink on the way.
    pub fn place(&self, event: &Event) -> LayerPath {
        self.view.slot_path(event.place)
    }

    /// The whiteouts of the layer that deleted nothing, by their numbers in its record.
    pub fn idle_whiteouts(&self) -> &[usize] {
        &self.changes.idle_whiteouts
    }

    /// What the layer did to each path, each path once, in an order that is always the same.
    ///
    /// No path is written out for it: they may be long, and many. [`Stack::place`](super::Stack::place) tells one.
    pub fn events(&self) -> Vec<Event> {
        let (view, changes) = (self.view, self.changes);
        let mut events = Vec::new();
        let mut told: HashSet<SlotId> = HashSet::new();
        let mut tell = |place, before, now| {
            if before != now {
                events.push(Event { layer: self.layer, place, before, now });
            }
        };
        // All that came with new directories, over what was at the same path in those that they replace.
        let mut pending: Vec<(SlotId, Option<DirectoryId>)> = Vec::new();
        let before_here = changes.before.iter().map(|(&slot, &before)| (slot, before));
        pending.extend(before_here.clone().map(|(slot, before)| (slot, directory(before))));
        while let Some((slot, replaced)) = pending.pop() {
            let Child::Directory(new) = view.child(slot) else { continue };
            if !view.is_born_since(new, changes.since) {
                continue;
            }
            for slot in view.slots_of(new) {
                let Some(now) = view.node(slot) else { continue };
                let old = replaced.and_then(|replaced| view.find(replaced, view.slot_name(slot)));
                let before = old.and_then(|old| changes.before.get(&old).copied());
                told.extend(old);
                tell(slot, before.and_then(|before| self.node_before(before)), Some(now));
                pending.push((slot, before.and_then(directory)));
            }
        }
        for (slot, before) in before_here {
            if !told.contains(&slot) {
                tell(slot, self.node_before(before), view.node(slot));
            }
        }
        for (&id, &before) in &changes.attributes_before {
            let now = view.directory_source(id);
            let slot = view.directory_slot(id);
            let stays = slot == SlotId::NONE || view.child(slot) == Child::Directory(id);
            if stays && view.attributes(before) != view.attributes(now) {
                let node = |attributes| Some(Node::Directory { id, attributes });
                tell(slot, node(before), node(now));
            }
        }
        events.sort_unstable_by_key(|event| event.place);
        events
    }

    fn node_before(&self, before: Child) -> Option<Node> {
        match before {
            Child::Nothing => None,
            Child::Leaf(inode) => Some(Node::Leaf(inode)),
            Child::Directory(id) => {
                let now = self.view.directory_source(id);
                let attributes = self.changes.attributes_before.get(&id).copied().unwrap_or(now);
                Some(Node::Directory { id, attributes })
            }
        }
    }
}

fn directory(child: Child) -> Option<DirectoryId> {
    match child {
        Child::Directory(id) => Some(id),
        Child::Nothing | Child::Leaf(_) => None,
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
