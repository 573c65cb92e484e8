//! Applies one layer to the view below: first its whiteouts and opaque whiteouts, then its entries in order.

use hashbrown::HashMap;

use super::lookup::{Stop, Walk};
use super::{Changes, Child, DirectoryId, InodeId, SlotId, Source, View};
use crate::core::record::{ChangeKind, LayerPath, NameId, Names, Record};
use crate::core::stack::{Problem, Reading, StackError};

/// The entries of a layer while they are carried out.
pub(super) struct Entries<'a> {
    layer: usize,
    record: &'a Record,
    ignore_root_entry: bool,
    link_sources: HashMap<NameId, InodeId>,
    /// The directory of the last entry: most are in the same one as the one before. It stays right while nothing is
    /// removed.
    last_parent: Option<(NameId, u64, DirectoryId)>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(layer: usize, record: &'a Record, reading: &Reading) -> Self {
        let ignore_root_entry = reading.ignore_root_entry;
        Self { layer, record, ignore_root_entry, link_sources: HashMap::new(), last_parent: None }
    }

    pub(super) fn len(&self) -> usize {
        self.record.changes.len()
    }
}

impl View<'_> {
    /// Carries out one layer: its whiteouts, each resolved in the view as it is now, then its entries in order (rule
    /// M1).
    ///
    /// `changes` holds what the layers below did that count as one with it: nothing for a layer of its own.
    pub(in crate::core::stack) fn apply(
        &mut self,
        layer: usize,
        reading: &Reading,
        mut changes: Changes,
    ) -> Result<Changes, StackError> {
        let records = self.records;
        let record = &records[layer];
        changes.epoch = layer as u32 + 1;
        let whiteouts = self.whiteouts(layer, record, reading, &mut changes);
        self.carry_out_whiteouts(&whiteouts, &mut changes);
        let mut entries = Entries::new(layer, record, reading);
        for (index, change) in record.changes.iter().enumerate() {
            if self.is_cancelled(index) {
                return Err(StackError { layer, path: LayerPath::root(), problem: Problem::Cancelled });
            }
            self.entry(&mut entries, index, &mut changes).map_err(|problem| StackError {
                layer,
                path: record.names.path(change.name),
                problem,
            })?;
        }
        self.copied_up.extend(&changes.relinked);
        Ok(changes)
    }

    /// Looked at now and then: an entry may have a long way through symlinks.
    pub(in crate::core::stack) fn is_cancelled(&self, index: usize) -> bool {
        index.is_multiple_of(64) && self.cancel.is_cancelled()
    }

    /// Carries out one entry; a whiteout is none.
    pub(super) fn entry(
        &mut self,
        entries: &mut Entries<'_>,
        index: usize,
        changes: &mut Changes,
    ) -> Result<(), Problem> {
        let record = entries.record;
        let change = &record.changes[index];
        let source = Source { layer: entries.layer as u32, change: index as u32 };
        match change.kind {
            ChangeKind::Whiteout | ChangeKind::Opaque => return Ok(()),
            ChangeKind::LinkSource { .. } => {
                let inode = self.new_inode(source)?;
                entries.link_sources.insert(change.name, inode);
                return Ok(());
            }
            ChangeKind::Directory(_) if change.name == NameId::ROOT => {
                if !entries.ignore_root_entry {
                    self.set_attributes(DirectoryId::ROOT, source, changes);
                }
                return Ok(());
            }
            _ if change.name == NameId::ROOT => return Err(Problem::RootIsNoDirectory),
            _ => {}
        }
        let parent_name = record.names.parent(change.name);
        let parent = match entries.last_parent {
            Some((name, removals, directory)) if name == parent_name && removals == self.removals => directory,
            _ => self.make_path(&record.names, parent_name, changes)?,
        };
        entries.last_parent = Some((parent_name, self.removals, parent));
        let slot = self.slot(parent, record.names.name(change.name))?;
        match &change.kind {
            ChangeKind::Directory(_) => match self.child(slot) {
                Child::Directory(directory) => self.set_attributes(directory, source, changes),
                _ => drop(self.new_directory(slot, source, changes)?),
            },
            ChangeKind::HardLink { target } => self.link(entries, slot, *target, changes)?,
            _ => {
                let inode = self.new_inode(source)?;
                self.put_leaf(slot, inode, changes);
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        entries: &Entries<'_>,
        slot: SlotId,
        target: NameId,
        changes: &mut Changes,
    ) -> Result<(), Problem> {
        let names = &entries.record.names;
        let named = |problem: fn(LayerPath) -> Problem| problem(names.path(target));
        let (inode, target_slot) = if let Some(&inode) = entries.link_sources.get(&target) {
            (inode, None)
        } else if target == NameId::ROOT {
            return Err(named(Problem::LinkToDirectory));
        } else {
            let parent = self.find_path(names, names.parent(target), &mut Vec::new());
            let found = parent.and_then(|parent| self.find(parent, names.name(target)));
            match found.map(|found| (found, self.child(found))) {
                Some((found, Child::Leaf(inode))) => (inode, Some(found)),
                Some((_, Child::Directory(_))) => return Err(named(Problem::LinkToDirectory)),
                Some((_, Child::Nothing)) | None => return Err(named(Problem::LinkTargetMissing)),
            }
        };
        if self.child(slot) == Child::Leaf(inode) {
            return Ok(());
        }
        if let (Child::Directory(replaced), Some(target_slot)) = (self.child(slot), target_slot)
            && self.is_inside(self.slots[target_slot.index()].directory, replaced)
        {
            return Err(named(Problem::LinkReplacesTarget));
        }
        self.put_leaf(slot, inode, changes);
        if self.inodes[inode.index()].source.layer + 1 < changes.since {
            changes.relinked.push(inode);
        }
        Ok(())
    }

    fn is_inside(&self, mut directory: DirectoryId, ancestor: DirectoryId) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match self.directories[directory.index()].slot {
                SlotId::NONE => return false,
                slot => directory = self.slots[slot.index()].directory,
            }
        }
    }

    /// The directory at a path, with symlinks followed as under chroot and what is missing made (rules N4 and N5).
    fn make_path(&mut self, names: &Names, path: NameId, changes: &mut Changes) -> Result<DirectoryId, Problem> {
        let mut walk = Walk::new(names.ascend(path).collect());
        loop {
            let missing = match walk.go(self) {
                Ok(directory) => return Ok(directory),
                Err(Stop::TooManyLinks) => return Err(Problem::TooManyLinks),
                Err(Stop::Blocked(component, inode))
                    if self.inodes[inode.index()].source.layer + 1 == changes.epoch =>
                {
                    return Err(Problem::ParentIsFile(self.path_in(walk.at, component)));
                }
                // The layer names the link and not what it leads to: replacing that by a directory would lose it.
                Err(Stop::Blocked(component, _)) if let Some(&link) = walk.links.last() => {
                    let (link, file) = (self.slot_path(link), self.path_in(walk.at, component));
                    return Err(Problem::ParentLeadsToFile { link, file });
                }
                Err(Stop::Missing(component) | Stop::Blocked(component, _)) => component,
            };
            let slot = self.slot(walk.at, missing)?;
            walk.at = self.new_directory(slot, Source::UNNAMED, changes)?;
        }
    }
}
