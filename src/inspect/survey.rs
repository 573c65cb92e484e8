//! Summarises what each layer adds, changes and deletes.

use std::path::Path;

use crate::blob::LayerFacts;
use crate::core::record::{LayerPath, Record};
use crate::core::stack::{Over, What};
use crate::image::Image;
use crate::inspect::index::known_records;
use crate::unpack::{Error, Options, Progress, extract, replay};

/// A layer that was read, and what it does to what lies below it.
#[derive(Debug)]
pub struct LayerSurvey {
    /// The stored and the uncompressed bytes, their digests and the compression.
    pub facts: LayerFacts,
    /// What it does.
    pub changes: LayerChanges,
}

/// What one layer does to what lies below it.
#[derive(Debug, Default)]
pub struct LayerChanges {
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// Paths that were not there below.
    pub adds: Vec<LayerPath>,
    /// Paths that were there below and are other files now, or directories with other attributes.
    pub replaces: Vec<LayerPath>,
    /// Paths that were there below and are gone. Of a directory only its own path is listed.
    pub hides: Vec<LayerPath>,
}

/// Reads all layers of an image, checks them, and tells what each adds, replaces and hides.
///
/// # Errors
/// A damaged or hostile image, or a digest that is not what the image states.
pub fn survey(image: &Image, options: &Options, progress: &dyn Progress) -> Result<Vec<LayerSurvey>, Error> {
    let (mut facts, mut records) = (Vec::new(), Vec::new());
    for layer in extract::read_records(image, options, progress)? {
        records.push(layer.record);
        facts.push(layer.facts);
    }
    let survey = |(facts, changes)| LayerSurvey { facts, changes };
    Ok(facts.into_iter().zip(changes(&records, options)?).map(survey).collect())
}

/// The same without a layer being read, if the cache has the indexes of all.
///
/// # Errors
/// Layers that do not fit on one another.
pub fn survey_known(image: &Image, cache: &Path, options: &Options) -> Result<Option<Vec<LayerChanges>>, Error> {
    match known_records(image, cache) {
        Some(records) => changes(&records, options).map(Some),
        None => Ok(None),
    }
}

fn changes(records: &[Record], options: &Options) -> Result<Vec<LayerChanges>, Error> {
    let stack = replay(records, options)?;
    let mut all = Vec::new();
    for (record, difference) in records.iter().zip(stack.layers()) {
        let mut changes = LayerChanges { entries: record.changes.len() as u64, ..LayerChanges::default() };
        for (index, entry) in difference.entries().iter().enumerate().skip(1) {
            let list = match (entry.what, entry.over) {
                (What::Whiteout, _) => &mut changes.hides,
                (_, Over::Nothing) => &mut changes.adds,
                (_, Over::Other) => &mut changes.replaces,
                (What::Directory { changed: true, .. }, Over::Same) => &mut changes.replaces,
                (_, Over::Same) => continue,
            };
            list.push(stack.path(difference, index));
        }
        changes.hides.extend(stack.hidden_by_opaque(difference));
        changes.hides.sort_unstable();
        all.push(changes);
    }
    Ok(all)
}
