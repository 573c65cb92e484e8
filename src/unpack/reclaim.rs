//! Giving back the room of files that later layers replace or delete, while layers are still being read.
//!
//! A flat tree shows what the last layer leaves. Once all layers up to some one are read, what they do not show together is
//! shown by no tree: a name that is gone cannot come back, and nothing can be linked to it. So such files are removed as
//! soon as the record of the layer that replaces them is known, and an image of ten layers that each replace one file
//! needs room for about two of them. Which files these are is told by the replay itself. It is only asked where
//! a layer names the path of a large file below, so that images in which nothing large is replaced pay nothing.
//!
//! Layers are read several at a time, and not from the bottom up, so what is replaced may have to wait for a layer below
//! that is not read yet. Where that is much, no further layer is begun before the one that is missing.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::layer::LayerError;
use crate::core::record::{ChangeKind, ContentId, NameId, Names, Record};
use crate::core::stack::{Reading, Stack};
use crate::unpack::queue::Queue;
use crate::unpack::stage::{Staged, trying};

/// Files of so many bytes are worth looking for.
const LARGE: u64 = 256 << 10;
/// A replay is worth so many bytes, and so is waiting for a layer.
const WORTH: u64 = 4 << 20;
/// Of all bytes in large files, the part that may wait to be given back is one in so many.
const WAITING_PART: u64 = 8;
/// How long somebody who stopped the work may go unnoticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Layers that are read, as far as their files are still needed.
#[derive(Debug)]
pub(super) struct Reclaim {
    reading: Reading,
    state: Mutex<State>,
    /// A layer was added.
    added: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// From the bottom up, without a gap.
    records: Vec<Record>,
    stages: Vec<Staged>,
    /// What was read before a layer below it.
    waiting: BTreeMap<usize, Waiting>,
    /// Large files that may still be shown.
    large: Vec<Large>,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    staged: Staged,
    covering: Covering,
}

#[derive(Debug)]
struct Large {
    layer: usize,
    name: NameId,
    content: ContentId,
    size: u64,
    /// The lowest layer that is read and most likely replaces it.
    covered_by: Option<usize>,
}

impl Reclaim {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, state: Mutex::default(), added: Condvar::new() }
    }

    /// The layer that is read next: the first of the queue, or the one that others wait for. Where that one is being read
    /// already, this waits until it is.
    pub(super) fn choose(&self, queue: &Queue<'_>) -> Option<usize> {
        let mut state = self.state();
        while state.is_crowded() && !queue.is_empty() && !queue.is_stopped() {
            if let Some(missing) = queue.take(state.records.len()) {
                return Some(missing);
            }
            state = self.added.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.first()
    }

    /// Takes in a layer that was read, and gives back what nobody needs any more.
    pub(super) fn add(&self, layer: usize, record: Record, staged: Staged) -> Result<(), LayerError> {
        let mut state = self.state();
        state.push(layer, Waiting { covering: Covering::of(&record), record, staged });
        let result = match state.is_worth_asking() {
            true => state.give_back(&self.reading),
            false => Ok(()),
        };
        self.added.notify_all();
        result
    }

    /// All layers, bottom first.
    pub(super) fn into_layers(self) -> (Vec<Record>, Vec<Staged>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.records, state.stages)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, layer: usize, waiting: Waiting) {
        let replaces = |file: &Large| {
            file.layer < layer && waiting.covering.covers(&waiting.record.names, self.names(file.layer), file.name)
        };
        let replaced: Vec<bool> = self.large.iter().map(replaces).collect();
        for (file, _) in self.large.iter_mut().zip(replaced).filter(|(_, is_replaced)| *is_replaced) {
            file.covered_by = Some(file.covered_by.map_or(layer, |lowest| lowest.min(layer)));
        }
        let names = &waiting.record.names;
        let large = waiting.record.changes.iter().filter_map(|change| match change.kind {
            ChangeKind::File { size, content, .. } if size >= LARGE && change.name != NameId::ROOT => {
                let covered_by = self.covered_by(layer, names, change.name);
                Some(Large { layer, name: change.name, content, size, covered_by })
            }
            _ => None,
        });
        let large: Vec<Large> = large.collect();
        self.large.extend(large);
        self.waiting.insert(layer, waiting);
        while let Some(next) = self.waiting.remove(&self.records.len()) {
            self.records.push(next.record);
            self.stages.push(next.staged);
        }
    }

    fn names(&self, layer: usize) -> &Names {
        self.records.get(layer).map_or_else(|| &self.waiting[&layer].record.names, |record| &record.names)
    }

    /// The lowest of the layers that wait, above some one, that most likely replaces one of its names.
    fn covered_by(&self, layer: usize, names: &Names, name: NameId) -> Option<usize> {
        let mut above = self.waiting.range(layer + 1..);
        above.find(|(_, above)| above.covering.covers(&above.record.names, names, name)).map(|(&above, _)| above)
    }

    /// Bytes that are most likely replaced, by layers with all below them read, or by others.
    fn covered(&self, with_all_below: bool) -> u64 {
        let is_so = |file: &&Large| file.covered_by.is_some_and(|layer| (layer < self.records.len()) == with_all_below);
        self.large.iter().filter(is_so).map(|file| file.size).sum()
    }

    fn is_worth_asking(&self) -> bool {
        self.covered(true) >= WORTH
    }

    /// Whether too much waits for a layer.
    fn is_crowded(&self) -> bool {
        let all: u64 = self.large.iter().map(|file| file.size).sum();
        self.covered(false) >= (all / WAITING_PART).max(WORTH)
    }

    fn give_back(&mut self, reading: &Reading) -> Result<(), LayerError> {
        // What is still shown after all may be replaced by others.
        let is_asked = |file: &Large| file.covered_by.is_some_and(|layer| layer < self.records.len());
        let by_others = |file: &Large| match is_asked(file) {
            true => self.covered_by(file.layer, self.names(file.layer), file.name),
            false => file.covered_by,
        };
        let covered_by: Vec<Option<usize>> = self.large.iter().map(by_others).collect();
        for (file, covered_by) in self.large.iter_mut().zip(covered_by) {
            file.covered_by = covered_by;
        }
        match Stack::lost_contents(&self.records, reading.clone()) {
            Ok(lost) => self.remove(&lost),
            // What is wrong is told when all layers are known.
            Err(_) => Ok(()),
        }
    }

    fn remove(&mut self, lost: &[(usize, ContentId)]) -> Result<(), LayerError> {
        let Self { records, stages, large, .. } = self;
        for &(layer, content) in lost {
            let names = &records[layer].names;
            stages[layer].remove_content(names, content).map_err(|error| LayerError::Write {
                path: stages[layer].name_of(content).map(|name| names.path(name)).unwrap_or_default(),
                error: Box::new(trying("remove what a later layer replaces")(error)),
            })?;
        }
        let lost: hashbrown::HashSet<_> = lost.iter().copied().collect();
        large.retain(|file| !lost.contains(&(file.layer, file.content)));
        stages.iter_mut().for_each(Staged::close);
        Ok(())
    }
}

/// What a layer puts something in the place of, going by names alone: where symlinks are on the way it may be mistaken,
/// in both directions, and so it only says when to ask.
#[derive(Debug)]
struct Covering {
    /// For each name: whether what is below it in lower layers is most likely gone.
    hides: Vec<bool>,
    /// For each name: whether the layer has an entry for it.
    is_named: Vec<bool>,
}

impl Covering {
    fn of(record: &Record) -> Self {
        let (mut hides, mut is_named) = (vec![false; record.names.len()], vec![false; record.names.len()]);
        for change in &record.changes {
            is_named[change.name.index()] |= !matches!(change.kind, ChangeKind::Opaque);
            hides[change.name.index()] |= !matches!(change.kind, ChangeKind::Directory(_));
        }
        Self { hides, is_named }
    }

    /// Whether a layer of these names has something in the place of a name in a lower layer.
    fn covers(&self, names: &Names, lower: &Names, name: NameId) -> bool {
        let components: Vec<&[u8]> = lower.ascend(name).collect();
        let mut at = NameId::ROOT;
        for component in components.into_iter().rev() {
            if self.hides[at.index()] {
                return true;
            }
            match names.child(at, component) {
                Some(child) => at = child,
                None => return false,
            }
        }
        self.is_named[at.index()]
    }
}
