//! The tree that the layers up to some point show together, built from their records alone.
//!
//! Directories have identities: a new one whenever a directory comes into being where there was none, or is removed and
//! made again; the same one when a directory entry lands on a directory. A *slot* is a name in a directory of one
//! identity; it stays when its content goes, so that the state before a layer can be told from the state after it by
//! remembering, for each slot that the layer touched, what it held.

mod lookup;
mod replay;
mod whiteouts;

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

pub use lookup::{Last, LookupError, Node, Resolved};

use super::{LayerEntry, Problem, Reading};
use crate::core::cancel::Cancel;
use crate::core::limits::Limits;
use crate::core::record::{Attributes, Change, ChangeKind, ContentId, Record};

/// A directory of one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(u32);

impl DirectoryId {
    pub(super) const ROOT: Self = Self(0);
}

/// A file that is not a directory: an inode, which may have several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

impl InodeId {
    /// A number that no other inode of the stack has.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId(u32);

impl SlotId {
    /// Stands for the root's own place, which is in no directory, and for the end of a list.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    Nothing,
    Directory(DirectoryId),
    Leaf(InodeId),
}

/// The entry that something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    layer: u32,
    change: u32,
}

impl Source {
    /// A directory that no layer names (rule N5).
    const UNNAMED: Self = Self { layer: u32::MAX, change: u32::MAX };

    /// The layer that has the entry, from 0 at the bottom; none for a directory that no layer names (rule N5).
    pub fn layer(self) -> Option<usize> {
        (self != Self::UNNAMED).then_some(self.layer as usize)
    }
}

#[derive(Debug)]
struct Slot {
    directory: DirectoryId,
    child: Child,
    /// The next slot of the same directory.
    next: SlotId,
    name_start: u32,
    name_length: u8,
}

#[derive(Debug)]
struct Directory {
    /// Where it is, or was.
    slot: SlotId,
    attributes: Source,
    /// The layer that brought it into being, counted from 1; the root is there from the start.
    born: u32,
    first: SlotId,
    /// Bytes of its path.
    path_length: u32,
}

#[derive(Debug)]
struct Inode {
    source: Source,
    slot: SlotId,
}

/// What one layer changed, or several that count as one, as far as it concerns directories that were there before.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The layer, counted from 1.
    pub(super) epoch: u32,
    /// The lowest of the layers that count as one; most often the layer itself.
    pub(super) since: u32,
    /// What each touched slot held before.
    pub(super) before: HashMap<SlotId, Child>,
    /// The attributes that touched directories had before.
    pub(super) attributes_before: HashMap<DirectoryId, Source>,
    /// Directories with an opaque whiteout.
    pub(super) opaque: HashSet<DirectoryId>,
    /// Files from below that got another name.
    pub(super) relinked: Vec<InodeId>,
    /// Whiteouts that deleted nothing: their numbers in the layer's record.
    pub(super) idle_whiteouts: Vec<usize>,
}

/// A tree of names, made by replaying records.
#[derive(Debug)]
pub struct View<'r> {
    records: &'r [Record],
    slots: Vec<Slot>,
    slot_names: Vec<u8>,
    slot_table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    directories: Vec<Directory>,
    inodes: Vec<Inode>,
    /// All the slots that an inode with more than one name ever had.
    links: HashMap<InodeId, Vec<SlotId>>,
    copied_up: HashSet<InodeId>,
    /// Counts removals: a resolved parent stays right while nothing is removed.
    removals: u64,
    /// Bytes of the paths of all slots.
    path_bytes: u64,
    limits: Limits,
    cancel: Cancel,
}

impl<'r> View<'r> {
    /// The empty tree: a root that no layer names.
    pub(super) fn new(records: &'r [Record], reading: &Reading) -> Self {
        let (slot, attributes, first) = (SlotId::NONE, Source::UNNAMED, SlotId::NONE);
        let root = Directory { slot, attributes, born: 0, first, path_length: 0 };
        // There will be at least as many, and most often hardly more.
        let least = records.iter().map(|record| record.names.len()).max().unwrap_or_default();
        Self {
            records,
            slots: Vec::with_capacity(least),
            slot_names: Vec::new(),
            slot_table: HashTable::with_capacity(least),
            hasher: DefaultHashBuilder::default(),
            directories: vec![root],
            inodes: Vec::with_capacity(least),
            links: HashMap::new(),
            copied_up: HashSet::new(),
            removals: 0,
            path_bytes: 0,
            limits: reading.limits,
            cancel: reading.cancel.clone(),
        }
    }

    /// The same tree without the records that it was made of.
    pub(super) fn without_records(self) -> View<'static> {
        let Self { records: _, slots, slot_names, slot_table, hasher, directories, inodes, .. } = self;
        let Self { links, copied_up, removals, path_bytes, limits, cancel, .. } = self;
        View {
            records: &[],
            slots,
            slot_names,
            slot_table,
            hasher,
            directories,
            inodes,
            links,
            copied_up,
            removals,
            path_bytes,
            limits,
            cancel,
        }
    }

    fn set_attributes(&mut self, directory: DirectoryId, source: Source, changes: &mut Changes) {
        let entry = &mut self.directories[directory.index()];
        if entry.born < changes.since {
            changes.attributes_before.entry(directory).or_insert(entry.attributes);
        }
        entry.attributes = source;
    }

    fn new_inode(&mut self, source: Source) -> Result<InodeId, Problem> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| Problem::TooManyNames)?;
        self.inodes.push(Inode { source, slot: SlotId::NONE });
        Ok(InodeId(id))
    }

    fn new_directory(
        &mut self,
        slot: SlotId,
        attributes: Source,
        changes: &mut Changes,
    ) -> Result<DirectoryId, Problem> {
        let id = DirectoryId(u32::try_from(self.directories.len()).map_err(|_| Problem::TooManyNames)?);
        let path_length = self.path_length(self.slots[slot.index()].directory, self.slot_name(slot).len());
        self.directories.push(Directory { slot, attributes, born: changes.epoch, first: SlotId::NONE, path_length });
        self.remove(slot, changes);
        self.remember(slot, changes);
        self.slots[slot.index()].child = Child::Directory(id);
        Ok(id)
    }

    fn put_leaf(&mut self, slot: SlotId, inode: InodeId, changes: &mut Changes) {
        self.remove(slot, changes);
        self.remember(slot, changes);
        self.slots[slot.index()].child = Child::Leaf(inode);
        let entry = &mut self.inodes[inode.index()];
        if entry.slot == SlotId::NONE {
            entry.slot = slot;
        } else {
            self.links.entry(inode).or_insert_with(|| vec![entry.slot]).push(slot);
        }
    }

    /// Takes away what a slot holds, a directory with all that is in it.
    fn remove(&mut self, slot: SlotId, changes: &mut Changes) {
        if self.child(slot) == Child::Nothing {
            return;
        }
        let mut pending = vec![slot];
        while let Some(slot) = pending.pop() {
            let child = self.child(slot);
            if child == Child::Nothing {
                continue;
            }
            self.remember(slot, changes);
            self.slots[slot.index()].child = Child::Nothing;
            self.removals += 1;
            if let Child::Directory(directory) = child {
                pending.extend(self.slots_of(directory));
            }
        }
    }

    /// Notes what a slot held before the layer, the first time that the layer touches it.
    fn remember(&self, slot: SlotId, changes: &mut Changes) {
        let entry = &self.slots[slot.index()];
        if self.directories[entry.directory.index()].born < changes.since {
            changes.before.entry(slot).or_insert(entry.child);
        }
    }

    pub(super) fn find(&self, directory: DirectoryId, name: &[u8]) -> Option<SlotId> {
        self.find_hashed(self.hasher.hash_one((directory.0, name)), directory, name)
    }

    fn find_hashed(&self, hash: u64, directory: DirectoryId, name: &[u8]) -> Option<SlotId> {
        let same = |&id: &u32| {
            let slot = &self.slots[id as usize];
            slot.directory == directory && self.slot_bytes(slot) == name
        };
        self.slot_table.find(hash, same).map(|&id| SlotId(id))
    }

    /// The slot of a name, made empty if it is not there.
    fn slot(&mut self, directory: DirectoryId, name: &[u8]) -> Result<SlotId, Problem> {
        let hash = self.hasher.hash_one((directory.0, name));
        if let Some(slot) = self.find_hashed(hash, directory, name) {
            return Ok(slot);
        }
        let id = u32::try_from(self.slots.len()).map_err(|_| Problem::TooManyNames)?;
        let name_start = u32::try_from(self.slot_names.len()).map_err(|_| Problem::TooManyNames)?;
        let name_length = u8::try_from(name.len()).map_err(|_| Problem::TooManyNames)?;
        self.path_bytes += u64::from(self.path_length(directory, name.len()));
        self.check_limits()?;
        self.slot_names.extend_from_slice(name);
        let next = std::mem::replace(&mut self.directories[directory.index()].first, SlotId(id));
        self.slots.push(Slot { directory, child: Child::Nothing, next, name_start, name_length });
        let Self { slots, slot_names, slot_table, hasher, .. } = self;
        slot_table.insert_unique(hash, id, |&other| {
            let slot = &slots[other as usize];
            let name = &slot_names[slot.name_start as usize..][..usize::from(slot.name_length)];
            hasher.hash_one((slot.directory.0, name))
        });
        Ok(SlotId(id))
    }

    fn path_length(&self, directory: DirectoryId, name: usize) -> u32 {
        self.directories[directory.index()].path_length.saturating_add(1 + name as u32)
    }

    /// Names may be made that no layer has: on the way through symlinks.
    fn check_limits(&self) -> Result<(), Problem> {
        let exceeded = |(what, limit, name)| Problem::Limit { what, limit, name };
        self.limits.check_names(self.slots.len() as u64 + 1, self.path_bytes).map_err(exceeded)
    }

    fn slot_bytes(&self, slot: &Slot) -> &[u8] {
        &self.slot_names[slot.name_start as usize..][..usize::from(slot.name_length)]
    }

    fn change(&self, source: Source) -> &'r Change {
        &self.records[source.layer as usize].changes[source.change as usize]
    }

    // What `Difference` asks for.

    pub(super) fn child(&self, slot: SlotId) -> Child {
        self.slots[slot.index()].child
    }

    pub(super) fn slot_name(&self, slot: SlotId) -> &[u8] {
        self.slot_bytes(&self.slots[slot.index()])
    }

    pub(super) fn emission_name(&self, entry: &LayerEntry) -> &[u8] {
        match entry.slot() {
            SlotId::NONE => b"",
            slot => self.slot_name(slot),
        }
    }

    pub(super) fn slot_directory(&self, slot: SlotId) -> DirectoryId {
        self.slots[slot.index()].directory
    }

    /// Where a directory is, or was: [`SlotId::NONE`] for the root.
    pub(super) fn directory_slot(&self, directory: DirectoryId) -> SlotId {
        self.directories[directory.index()].slot
    }

    pub(super) fn directory_source(&self, directory: DirectoryId) -> Source {
        self.directories[directory.index()].attributes
    }

    /// Whether a directory came into being in this layer, counted from 1, or above it.
    pub(super) fn is_born_since(&self, directory: DirectoryId, epoch: u32) -> bool {
        self.directories[directory.index()].born >= epoch
    }

    /// All slots of a directory, also those that hold nothing any more.
    pub(super) fn slots_of(&self, directory: DirectoryId) -> impl Iterator<Item = SlotId> {
        let mut at = self.directories[directory.index()].first;
        std::iter::from_fn(move || {
            if at == SlotId::NONE {
                return None;
            }
            let slot = at;
            at = self.slots[slot.index()].next;
            Some(slot)
        })
    }

    /// All the names that an inode has now.
    pub(super) fn names_of(&mut self, inode: InodeId) -> Vec<SlotId> {
        let Some(mut slots) = self.links.remove(&inode) else {
            return vec![self.inodes[inode.index()].slot];
        };
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| self.child(slot) == Child::Leaf(inode));
        self.links.insert(inode, slots.clone());
        slots
    }

    pub(super) fn attributes(&self, source: Source) -> Option<&'r Attributes> {
        if source == Source::UNNAMED { None } else { self.change(source).kind.attributes() }
    }

    pub(super) fn origin(&self, inode: InodeId) -> (usize, &'r Change) {
        let source = self.inodes[inode.index()].source;
        (source.layer as usize, self.change(source))
    }

    /// All files that any layer has, in the order of the layers and their entries.
    pub(super) fn inodes(&self) -> impl Iterator<Item = InodeId> + use<> {
        (0..self.inodes.len() as u32).map(InodeId)
    }

    /// The contents of files that have no name any more, and so will never have one: the layer, and the content.
    pub(super) fn lost_contents(&self) -> Vec<(usize, ContentId)> {
        let mut is_shown = vec![false; self.inodes.len()];
        for slot in &self.slots {
            if let Child::Leaf(inode) = slot.child {
                is_shown[inode.index()] = true;
            }
        }
        let lost = (self.inodes.iter().zip(is_shown)).filter(|(_, is_shown)| !is_shown).map(|(inode, _)| inode.source);
        lost.filter_map(|source| match self.change(source).kind {
            ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } => {
                Some((source.layer as usize, content))
            }
            _ => None,
        })
        .collect()
    }

    pub(super) fn is_linked(&self, inode: InodeId) -> bool {
        self.links.contains_key(&inode)
    }

    pub(super) fn is_copied_up(&self, inode: InodeId) -> bool {
        self.copied_up.contains(&inode)
    }
}

impl View<'static> {
    /// The same tree with the records that it was made of, and perhaps more.
    pub(super) fn with_records<'r>(self, records: &'r [Record], reading: &Reading) -> View<'r> {
        View { records, limits: reading.limits, cancel: reading.cancel.clone(), ..self }
    }
}

impl DirectoryId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl InodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl SlotId {
    fn index(self) -> usize {
        self.0 as usize
    }
}
