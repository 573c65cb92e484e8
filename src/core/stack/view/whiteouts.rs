//! Resolves a layer's whiteouts and opaque whiteouts: which files of lower layers each deletes (rule M1).
//!
//! All of them are resolved in the view below, before anything of the layer is carried out. A parent that is a symlink
//! there is followed, but not if the layer itself puts something else in the link's place, or takes it away: then what
//! the marker names is in the new directory, where nothing is below. Docker's overlay2 writes `link/` and
//! `link/.wh..wh..opq` for `rm link; mkdir link`.
//!
//! Whether a link stays depends on all that the layer does, under whatever names it does it. So the question is put to
//! the replay itself: the markers on whose way no symlink is, and the entries, are carried out, the links that they
//! touched are noted, and all is undone. Only layers with a marker that goes through a symlink pay for it, and they are
//! few.

use hashbrown::HashSet;

use super::replay::Entries;
use super::{Changes, Child, DirectoryId, SlotId, View};
use crate::core::record::{ChangeKind, Record};
use crate::core::stack::Reading;

/// What a layer's whiteouts delete.
#[derive(Default)]
pub(super) struct Whiteouts {
    /// Names, with all that is under them.
    names: Vec<SlotId>,
    /// Directories, of which all goes that is in them.
    directories: Vec<DirectoryId>,
}

/// A whiteout that goes through symlinks.
struct Through {
    /// Its number in the record.
    change: usize,
    target: Target,
    links: Vec<SlotId>,
}

#[derive(Clone, Copy)]
enum Target {
    Name(SlotId),
    Directory(DirectoryId),
}

impl Whiteouts {
    fn push(&mut self, target: Target) {
        match target {
            Target::Name(slot) => self.names.push(slot),
            Target::Directory(directory) => self.directories.push(directory),
        }
    }
}

impl View<'_> {
    /// Resolves a layer's whiteouts in the view as it is. Those that delete nothing are only noted in `changes`.
    pub(super) fn whiteouts(
        &mut self,
        layer: usize,
        record: &Record,
        reading: &Reading,
        changes: &mut Changes,
    ) -> Whiteouts {
        let mut whiteouts = Whiteouts::default();
        let mut through: Vec<Through> = Vec::new();
        for (index, change) in record.changes.iter().enumerate() {
            if self.is_cancelled(index) {
                // The entries come next, and are not begun.
                break;
            }
            let mut links = Vec::new();
            let target = match change.kind {
                ChangeKind::Whiteout => {
                    let parent = self.find_path(&record.names, record.names.parent(change.name), &mut links);
                    let slot = parent.and_then(|parent| self.find(parent, record.names.name(change.name)));
                    slot.filter(|&slot| self.child(slot) != Child::Nothing).map(Target::Name)
                }
                ChangeKind::Opaque => {
                    let directory = self.find_path(&record.names, change.name, &mut links);
                    let has_children =
                        |&id: &DirectoryId| self.slots_of(id).any(|slot| self.child(slot) != Child::Nothing);
                    directory.filter(has_children).map(Target::Directory)
                }
                _ => continue,
            };
            match target {
                None => changes.idle_whiteouts.push(index),
                Some(target) if links.is_empty() => whiteouts.push(target),
                Some(target) => through.push(Through { change: index, target, links }),
            }
        }
        if !through.is_empty() {
            let epoch = changes.epoch;
            let replaced = self.touched_in_trial(&whiteouts, Entries::new(layer, record, reading), epoch);
            let (followed, idle): (Vec<_>, Vec<_>) =
                through.into_iter().partition(|whiteout| !whiteout.links.iter().any(|link| replaced.contains(link)));
            changes.idle_whiteouts.extend(idle.iter().map(|whiteout| whiteout.change));
            self.sort_out(followed, &mut whiteouts, changes);
            changes.idle_whiteouts.sort_unstable();
        }
        whiteouts
    }

    pub(super) fn carry_out_whiteouts(&mut self, whiteouts: &Whiteouts, changes: &mut Changes) {
        for &slot in &whiteouts.names {
            self.remove(slot, changes);
        }
        for &directory in &whiteouts.directories {
            let slots: Vec<SlotId> = self.slots_of(directory).collect();
            for slot in slots {
                self.remove(slot, changes);
            }
            changes.opaque.insert(directory);
        }
    }

    /// Adds the whiteouts whose links stay. A link that one of them would hide does not: in doubt nothing is hidden,
    /// since what depends on itself has no answer, and a file too many is better than one too few.
    fn sort_out(&self, followed: Vec<Through>, whiteouts: &mut Whiteouts, changes: &mut Changes) {
        let mut names: HashSet<SlotId> = HashSet::new();
        let mut directories: HashSet<DirectoryId> = HashSet::new();
        for whiteout in &followed {
            match whiteout.target {
                Target::Name(slot) => drop(names.insert(slot)),
                Target::Directory(directory) => drop(directories.insert(directory)),
            }
        }
        let is_hidden = |&link: &SlotId| {
            let mut at = link;
            while at != SlotId::NONE {
                let directory = self.slot_directory(at);
                if names.contains(&at) || directories.contains(&directory) {
                    return true;
                }
                at = self.directory_slot(directory);
            }
            false
        };
        for whiteout in &followed {
            if whiteout.links.iter().any(is_hidden) {
                changes.idle_whiteouts.push(whiteout.change);
            } else {
                whiteouts.push(whiteout.target);
            }
        }
    }

    /// The names of the view that a layer touches, without the whiteouts that go through symlinks. The view is as
    /// before afterwards, but for empty slots.
    fn touched_in_trial(&mut self, whiteouts: &Whiteouts, mut entries: Entries<'_>, epoch: u32) -> HashSet<SlotId> {
        let (directories, inodes) = (self.directories.len(), self.inodes.len());
        let mut changes = Changes { epoch, since: epoch, ..Changes::default() };
        self.carry_out_whiteouts(whiteouts, &mut changes);
        for index in 0..entries.len() {
            if self.is_cancelled(index) {
                break;
            }
            // What cannot be is told when it is carried out in earnest.
            let _ = self.entry(&mut entries, index, &mut changes);
        }
        for (&slot, &before) in &changes.before {
            self.slots[slot.index()].child = before;
        }
        for (&directory, &before) in &changes.attributes_before {
            self.directories[directory.index()].attributes = before;
        }
        // Directories keep their numbers, which their slots are found by, and are left empty; files do not.
        for new in directories..self.directories.len() {
            let slots: Vec<SlotId> = self.slots_of(DirectoryId(new as u32)).collect();
            for slot in slots {
                self.slots[slot.index()].child = Child::Nothing;
            }
        }
        self.inodes.truncate(inodes);
        self.links.retain(|inode, _| inode.index() < inodes);
        changes.before.into_keys().collect()
    }
}
