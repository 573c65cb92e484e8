//! Computes what a layer's directory must hold: the difference between the tree before the layer and the tree after it,
//! never a translation of the layer's entries (rules O1 to O3).

use hashbrown::{HashMap, HashSet};

use super::view::{Changes, Child, DirectoryId, SlotId, Source};
use super::{InodeId, View};

/// The entries of one directory on disk, in order: every directory before what is in it, names sorted by their bytes.
///
/// The first entry is the root. A layer that changes nothing has no entries at all (rule O4).
#[derive(Debug, Default)]
pub struct Difference {
    entries: Vec<LayerEntry>,
    /// Names that directories with an opaque whiteout hide: the directory's index, and the name's slot.
    hidden: Vec<(u32, SlotId)>,
    /// Whether it is all that a view shows, and so has a root in any case.
    is_whole: bool,
    /// How many names a filter left out.
    left_out: u64,
}

/// One entry to be unpacked.
#[derive(Debug)]
pub struct LayerEntry {
    parent: u32,
    slot: SlotId,
    /// What is unpacked.
    pub what: What,
    /// What the view below has at this path.
    pub over: Over,
}

/// What is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory {
        /// Which one.
        id: DirectoryId,
        /// Where its attributes come from.
        attributes: Source,
        /// Whether it hides the directory below (rule O2).
        opaque: bool,
        /// Whether whiteouts are in it (rule O1).
        holds_whiteouts: bool,
        /// Whether it is new, or its attributes are others than before; if not, it is there for what is in it.
        changed: bool,
    },
    /// A file of any other kind.
    Leaf(InodeId),
    /// A name of the view below that is gone.
    Whiteout,
}

/// What was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing: it is new.
    Nothing,
    /// The very same directory, or the same file copied up.
    Same,
    /// Something that it replaces, or hides.
    Other,
}

impl Difference {
    /// The entries, parents first; empty for a layer that changes nothing.
    pub fn entries(&self) -> &[LayerEntry] {
        &self.entries
    }

    /// Whether a filter left something out.
    pub fn is_filtered(&self) -> bool {
        self.left_out > 0
    }

    /// How many names a filter left out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The names that opaque directories hide without a whiteout.
    pub(super) fn hidden(&self) -> &[(u32, SlotId)] {
        &self.hidden
    }

    /// What the directory of a layer, or of several that count as one, must hold. `changes` is what [`View::apply`]
    /// just did.
    pub(super) fn of_layer(view: &mut View<'_>, changes: &Changes) -> Self {
        let (touched, extra) = touched_directories(view, changes);
        let mut difference = Self::default();
        if touched.contains_key(&DirectoryId::ROOT) {
            Builder { view, changes: Some((changes, &touched, &extra)), difference: &mut difference }.build();
        }
        difference
    }

    /// Leaves out entries, directories with all that is in them, and then directories that were only there for what was
    /// in them.
    pub(super) fn leave_out(&mut self, is_excluded: impl Fn(&Self, usize) -> bool) {
        let count = self.entries.len();
        let mut stays = vec![true; count];
        for index in 1..count {
            stays[index] = stays[self.entries[index].parent()] && !is_excluded(self, index);
        }
        let mut is_needed = vec![false; count];
        for index in (1..count).rev().filter(|&index| stays[index]) {
            let entry = &self.entries[index];
            let only_for_others = matches!(entry.what, What::Directory { changed: false, opaque: false, .. });
            is_needed[index] |= !only_for_others;
            is_needed[entry.parent()] |= is_needed[index];
        }
        let is_root_changed =
            matches!(self.entries.first().map(|root| root.what), Some(What::Directory { changed: true, .. }));
        self.left_out = stays.iter().filter(|&&stays| !stays).count() as u64;
        if self.left_out == 0 {
            return;
        }
        if !is_root_changed && !self.is_whole && is_needed.first() == Some(&false) {
            return *self = Self { left_out: self.left_out, ..Self::default() };
        }
        let mut place = vec![0; count];
        for (index, mut entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            if index > 0 && !is_needed[index] {
                continue;
            }
            place[index] = self.entries.len() as u32;
            entry.parent = place[entry.parent()];
            if let What::Directory { holds_whiteouts, .. } = &mut entry.what {
                *holds_whiteouts = false;
            }
            let parent = entry.parent();
            let is_whiteout = entry.what == What::Whiteout;
            self.entries.push(entry);
            if let What::Directory { holds_whiteouts, .. } = &mut self.entries[parent].what {
                *holds_whiteouts |= is_whiteout;
            }
        }
        self.hidden.retain(|&(directory, _)| directory == 0 || is_needed[directory as usize]);
        for (directory, _) in &mut self.hidden {
            *directory = place[*directory as usize];
        }
    }

    /// All that a view shows, as one directory.
    pub(super) fn whole(view: &View<'_>) -> Self {
        let mut difference = Self { is_whole: true, ..Self::default() };
        Builder { view, changes: None, difference: &mut difference }.build();
        difference
    }
}

impl LayerEntry {
    /// The index of the directory that this is in; the root is in itself.
    pub fn parent(&self) -> usize {
        self.parent as usize
    }

    pub(super) fn slot(&self) -> SlotId {
        self.slot
    }
}

/// For each directory that was there before and that the layer's directory must hold: the slots of it that matter.
type Touched = HashMap<DirectoryId, Vec<SlotId>>;

/// Finds the directories of the view that were there before the layer and that something changed in or under, and
/// the names of files that must be emitted although they did not change (rule L2).
fn touched_directories(view: &mut View<'_>, changes: &Changes) -> (Touched, HashSet<SlotId>) {
    let mut touched = Touched::new();
    let mut extra = HashSet::new();
    for (&slot, &before) in &changes.before {
        if view.child(slot) != before {
            touch(view, changes, &mut touched, view.slot_directory(slot), Some(slot));
        }
    }
    for (&directory, &before) in &changes.attributes_before {
        if view.attributes(before) != view.attributes(view.directory_source(directory)) {
            touch(view, changes, &mut touched, directory, None);
        }
    }
    for &inode in &changes.relinked {
        for slot in view.names_of(inode) {
            if view.child(slot) == Child::Leaf(inode) && extra.insert(slot) {
                touch(view, changes, &mut touched, view.slot_directory(slot), Some(slot));
            }
        }
    }
    (touched, extra)
}

/// Notes a directory and all that lead to it, if it is still in the view.
fn touch(view: &View<'_>, changes: &Changes, touched: &mut Touched, directory: DirectoryId, slot: Option<SlotId>) {
    if !touched.contains_key(&directory) && !is_attached(view, touched, directory) {
        return;
    }
    let (mut at, mut slot) = (directory, slot);
    loop {
        let known = touched.contains_key(&at);
        // A directory born in this layer is emitted with all that is in it; only its way up matters.
        if !view.is_born_since(at, changes.since) {
            touched.entry(at).or_default().extend(slot);
            if known {
                return;
            }
        }
        match view.directory_slot(at) {
            SlotId::NONE => return,
            up => (at, slot) = (view.slot_directory(up), Some(up)),
        }
    }
}

fn is_attached(view: &View<'_>, touched: &Touched, directory: DirectoryId) -> bool {
    let mut at = directory;
    loop {
        if touched.contains_key(&at) {
            return true;
        }
        match view.directory_slot(at) {
            SlotId::NONE => return true,
            slot if view.child(slot) != Child::Directory(at) => return false,
            slot => at = view.slot_directory(slot),
        }
    }
}

struct Builder<'a, 'r> {
    view: &'a View<'r>,
    /// Without them everything is emitted.
    changes: Option<(&'a Changes, &'a Touched, &'a HashSet<SlotId>)>,
    difference: &'a mut Difference,
}

/// A name still to be emitted.
struct Pending {
    parent: u32,
    slot: SlotId,
    /// Whether the directory it is in hides all that lies below, so that nothing in it needs to.
    cut_off: bool,
}

impl Builder<'_, '_> {
    fn build(mut self) {
        let mut pending = Vec::new();
        self.directory(DirectoryId::ROOT, 0, SlotId::NONE, Over::Same, false, &mut pending);
        while let Some(Pending { parent, slot, cut_off }) = pending.pop() {
            if self.view.is_cancelled(self.difference.entries.len()) {
                // Whoever has cancelled the work makes nothing of this.
                return;
            }
            let now = self.view.child(slot);
            let before = self.before(slot);
            let over = match before {
                Child::Nothing => Over::Nothing,
                _ if before == now => Over::Same,
                _ => Over::Other,
            };
            match now {
                Child::Nothing if over == Over::Nothing || cut_off => {}
                Child::Nothing => self.push(LayerEntry { parent, slot, what: What::Whiteout, over }),
                Child::Leaf(inode) => self.push(LayerEntry { parent, slot, what: What::Leaf(inode), over }),
                Child::Directory(directory) => {
                    let hides =
                        over == Over::Other && matches!(before, Child::Directory(old) if self.had_children(old));
                    self.directory(directory, parent, slot, over, hides && !cut_off, &mut pending);
                }
            }
        }
    }

    fn push(&mut self, entry: LayerEntry) {
        self.difference.entries.push(entry);
    }

    /// Emits a directory, and notes what in it is to come. `hides`: another directory's children lie below.
    fn directory(
        &mut self,
        directory: DirectoryId,
        parent: u32,
        slot: SlotId,
        over: Over,
        hides: bool,
        pending: &mut Vec<Pending>,
    ) {
        let index = self.difference.entries.len() as u32;
        let marked = over == Over::Same && slot != SlotId::NONE && self.is_marked_opaque(directory);
        let fresh = over != Over::Same || self.changes.is_none();
        let cut_off = fresh || marked;
        let mut slots: Vec<SlotId> = match self.changes {
            Some((_, touched, _)) if !cut_off => touched.get(&directory).cloned().unwrap_or_default(),
            _ => self.view.slots_of(directory).collect(),
        };
        slots.retain(|&slot| self.is_emitted(slot, cut_off));
        slots.sort_unstable_by(|&one, &other| self.view.slot_name(one).cmp(self.view.slot_name(other)));
        slots.dedup();
        let holds_whiteouts = slots.iter().any(|&slot| self.view.child(slot) == Child::Nothing);
        pending.extend(slots.into_iter().rev().map(|slot| Pending { parent: index, slot, cut_off }));
        if marked {
            let gone = |&slot: &SlotId| self.view.child(slot) == Child::Nothing && self.before(slot) != Child::Nothing;
            let hidden: Vec<_> = self.view.slots_of(directory).filter(gone).map(|slot| (index, slot)).collect();
            self.difference.hidden.extend(hidden);
        }
        let attributes = self.view.directory_source(directory);
        let changed = over != Over::Same || self.attributes_changed(directory);
        let what = What::Directory { id: directory, attributes, opaque: hides || marked, holds_whiteouts, changed };
        self.push(LayerEntry { parent, slot, what, over });
    }

    fn is_emitted(&self, slot: SlotId, cut_off: bool) -> bool {
        match self.view.child(slot) {
            Child::Nothing => !cut_off && self.before(slot) != Child::Nothing,
            now if cut_off => now != Child::Nothing,
            // A directory that is there as before is in the list because something in it changed.
            Child::Directory(_) => true,
            now => now != self.before(slot) || self.changes.is_some_and(|(_, _, extra)| extra.contains(&slot)),
        }
    }

    /// An opaque whiteout stays one if it hid something; everything from below is gone then, so that the directory
    /// needs no whiteouts.
    fn is_marked_opaque(&self, directory: DirectoryId) -> bool {
        self.changes.is_some_and(|(changes, ..)| changes.opaque.contains(&directory)) && self.had_children(directory)
    }

    fn attributes_changed(&self, directory: DirectoryId) -> bool {
        self.changes.is_some_and(|(changes, ..)| {
            changes.attributes_before.get(&directory).is_some_and(|&before| {
                self.view.attributes(before) != self.view.attributes(self.view.directory_source(directory))
            })
        })
    }

    /// What a slot held before the layer.
    fn before(&self, slot: SlotId) -> Child {
        match self.changes {
            None => Child::Nothing,
            Some((changes, ..)) => match changes.before.get(&slot) {
                Some(&before) => before,
                // Not touched: as it is now, unless its directory is new and so had nothing.
                None if self.view.is_born_since(self.view.slot_directory(slot), changes.since) => Child::Nothing,
                None => self.view.child(slot),
            },
        }
    }

    fn had_children(&self, directory: DirectoryId) -> bool {
        self.view.slots_of(directory).any(|slot| self.before(slot) != Child::Nothing)
    }
}
