//! Extracts every layer into a directory of its own: the first step of both ways to unpack.

use std::path::Path;

use crate::blob::Pace;
use crate::core::layer::{Discard, read_layer};
use crate::core::record::Record;
use crate::fs::handles;
use crate::image::Image;
use crate::parallel::jobs;
use crate::unpack::read::{Extracted, read_layers};
use crate::unpack::reclaim::Reclaim;
use crate::unpack::stage::{Capabilities, Contents, ContentsWriter, Home, Spill, Stage, Staged};
use crate::unpack::{Error, Losses, Options, Progress, reading};

/// Reads all layers into directories of their own. `reclaim`: removes files that layers above replace or delete.
pub(crate) fn extract(
    image: &Image,
    homes: &[Home],
    spill: &Spill,
    capabilities: &Capabilities,
    reclaim: bool,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<(Staged, Losses)>>, Error> {
    let reclaim = reclaim.then(|| Reclaim::new(reading(options)));
    // Each of those that are read at the same time has files open besides its directories.
    let at_once = jobs(options.jobs, image.layers.len()).get().min(image.layers.len());
    let most_open = handles(8 * at_once as u64);
    let extracted = read_layers(image, &all(image), options, progress, &|layer, stream, read, tell| {
        // Where reading has threads of its own, finishing files has one too.
        let ahead = stream.stream.pace() == Pace::Ahead;
        let mut stage = Stage::new(layer, homes[layer].clone(), spill.clone(), capabilities.clone(), most_open, ahead);
        let record = read_layer(stream, &mut stage, read, tell)?;
        let (staged, losses) = stage.into_staged();
        let losses = losses.map(|name| record.names.path(name));
        match &reclaim {
            None => Ok((record, (Some(staged), losses))),
            Some(reclaim) => reclaim.add(layer, record, staged).map(|()| (Record::default(), (None, losses))),
        }
    })?;
    let (records, stages) = reclaim.map(Reclaim::into_layers).unwrap_or_default();
    let (mut records, mut stages) = (records.into_iter(), stages.into_iter());
    let whole = |Extracted { record, facts, kept: (staged, losses), seconds }: Extracted<(Option<Staged>, Losses)>| {
        let staged = staged.or_else(|| stages.next())?;
        Some(Extracted { record: records.next().unwrap_or(record), facts, kept: (staged, losses), seconds })
    };
    Ok(extracted.into_iter().filter_map(whole).collect())
}

/// A layer's contents, where they are wanted, and what of its attributes could not be kept.
pub(crate) type Kept = (Option<Contents>, Losses);

/// Reads all layers, and keeps the contents of files in `directory`, of those layers where `is_wanted` says so.
pub(crate) fn read_contents(
    image: &Image,
    directory: &Path,
    is_wanted: &(dyn Fn(usize) -> bool + Sync),
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<Kept>>, Error> {
    read_layers(image, &all(image), options, progress, &|layer, stream, read, tell| {
        if !is_wanted(layer) {
            return Ok((read_layer(stream, &mut Discard::default(), read, tell)?, (None, Losses::default())));
        }
        let mut writer = ContentsWriter::new(directory)?;
        let record = read_layer(stream, &mut writer, read, tell)?;
        let (contents, losses) = writer.into_contents();
        let losses = losses.map(|name| record.names.path(name));
        Ok((record, (Some(contents), losses)))
    })
}

/// Reads all layers and keeps nothing but their records.
pub(crate) fn read_records(
    image: &Image,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Extracted<()>>, Error> {
    read_layers(image, &all(image), options, progress, &|_, stream, read, tell| {
        let mut discard = Discard::default();
        Ok((read_layer(stream, &mut discard, read, tell)?, ()))
    })
}

fn all(image: &Image) -> Vec<usize> {
    (0..image.layers.len()).collect()
}
