//! No form at all: what each layer would change, found without writing anything.

use super::{extract, replay};
use crate::blob::LayerFacts;
use crate::error::Error;
use crate::image::Image;
use crate::layer::{LayerPath, Record};
use crate::options::Options;
use crate::report::Progress;
use crate::stack::{Over, What};

/// What one layer does to what lies below it.
#[derive(Debug)]
pub struct LayerSurvey {
    /// The stored and the uncompressed bytes, their digests and the compression.
    pub facts: LayerFacts,
    /// Entries, marks counted.
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
    let mut surveys = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    for layer in extract::read_records(image, options, progress)? {
        let entries = layer.record.changes.len() as u64;
        records.push(layer.record);
        surveys.push(LayerSurvey {
            facts: layer.facts,
            entries,
            adds: Vec::new(),
            replaces: Vec::new(),
            hides: Vec::new(),
        });
    }
    let stack = replay(&records, options)?;
    for (survey, difference) in surveys.iter_mut().zip(stack.layers()) {
        for (index, emission) in difference.emissions().iter().enumerate().skip(1) {
            let list = match (emission.what, emission.over) {
                (What::Whiteout, _) => &mut survey.hides,
                (_, Over::Nothing) => &mut survey.adds,
                (_, Over::Other) => &mut survey.replaces,
                (What::Directory { changed: true, .. }, Over::Same) => &mut survey.replaces,
                (_, Over::Same) => continue,
            };
            list.push(stack.path(difference, index));
        }
        survey.hides.extend(stack.hidden_by_opaque(difference));
        survey.hides.sort_unstable();
    }
    Ok(surveys)
}
