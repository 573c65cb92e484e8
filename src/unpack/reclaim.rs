//! Giving back the room of files that later layers replace or delete, while layers are still being read.
//!
//! A flat tree shows what the last layer leaves. Once all layers up to some one are read, what they do not show together is
//! shown by no tree: a name that is gone cannot come back, and nothing can be linked to it. So such files are removed as
//! soon as the record of the layer that replaces them is known, and an image of ten layers that each replace one file
//! needs room for about two of them. Which files these are is told by the replay itself. It is only asked where
//! a layer names the path of a large file below, so that images in which nothing large is replaced pay nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::core::layer::LayerError;
use crate::core::record::{ChangeKind, ContentId, NameId, Names, Record};
use crate::core::stack::{Reading, Stack};
use crate::unpack::stage::{Staged, trying};

/// Files of so many bytes are worth looking for.
const LARGE: u64 = 256 << 10;
/// A replay is worth so many bytes.
const WORTH: u64 = 4 << 20;

/// Layers that are read, as far as their files are still needed.
#[derive(Debug)]
pub(super) struct Reclaim {
    reading: Reading,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// From the bottom up, without a gap.
    records: Vec<Record>,
    stages: Vec<Staged>,
    /// What was read before a layer below it.
    waiting: BTreeMap<usize, (Record, Staged)>,
    /// Large files that may still be shown.
    large: Vec<Large>,
    /// Bytes of those that are most likely not.
    covered: u64,
}

#[derive(Debug)]
struct Large {
    layer: usize,
    name: NameId,
    content: ContentId,
    size: u64,
}

impl Reclaim {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, state: Mutex::default() }
    }

    /// Takes in a layer that was read, and gives back what nobody needs any more.
    pub(super) fn add(&self, layer: usize, record: Record, staged: Staged) -> Result<(), LayerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.insert(layer, (record, staged));
        while let Some((record, staged)) = {
            let next = state.records.len();
            state.waiting.remove(&next)
        } {
            state.push(record, staged);
        }
        if state.covered < WORTH {
            return Ok(());
        }
        state.covered = 0;
        match Stack::lost_contents(&state.records, &self.reading) {
            Ok(lost) => state.remove(&lost),
            // What is wrong is told when all layers are known.
            Err(_) => Ok(()),
        }
    }

    /// All layers, bottom first.
    pub(super) fn into_layers(self) -> (Vec<Record>, Vec<Staged>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.records, state.stages)
    }
}

impl State {
    fn push(&mut self, record: Record, staged: Staged) {
        if !self.large.is_empty() {
            let covering = Covering::of(&record);
            let is_covered = |file: &&Large| covering.covers(&self.records[file.layer].names, file.name);
            self.covered += self.large.iter().filter(is_covered).map(|file| file.size).sum::<u64>();
        }
        let layer = self.records.len();
        self.large.extend(record.changes.iter().filter_map(|change| match change.kind {
            ChangeKind::File { size, content, .. } if size >= LARGE && change.name != NameId::ROOT => {
                Some(Large { layer, name: change.name, content, size })
            }
            _ => None,
        }));
        self.records.push(record);
        self.stages.push(staged);
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
struct Covering<'a> {
    names: &'a Names,
    /// For each name: whether what is below it in lower layers is most likely gone.
    hides: Vec<bool>,
    /// For each name: whether the layer has an entry for it.
    is_named: Vec<bool>,
}

impl<'a> Covering<'a> {
    fn of(record: &'a Record) -> Self {
        let (mut hides, mut is_named) = (vec![false; record.names.len()], vec![false; record.names.len()]);
        for change in &record.changes {
            is_named[change.name.index()] |= !matches!(change.kind, ChangeKind::Opaque);
            hides[change.name.index()] |= !matches!(change.kind, ChangeKind::Directory(_));
        }
        Self { names: &record.names, hides, is_named }
    }

    fn covers(&self, names: &Names, name: NameId) -> bool {
        let components: Vec<&[u8]> = names.ascend(name).collect();
        let mut at = NameId::ROOT;
        for component in components.into_iter().rev() {
            if self.hides[at.index()] {
                return true;
            }
            match self.names.child(at, component) {
                Some(child) => at = child,
                None => return false,
            }
        }
        self.is_named[at.index()]
    }
}
