//! Extracts every layer into a directory of its own: the first step of both ways to unpack.

use std::path::Path;

use crate::blob::Pace;
use crate::core::layer::{Discard, read_layer};
use crate::core::record::Record;
use crate::fs::handles;
use crate::image::Image;
use crate::parallel::jobs;
use crate::unpack::queue::Queue;
use crate::unpack::read::{Extracted, read_chosen, read_layers};
use crate::unpack::reclaim::Reclaim;
use crate::unpack::stage::{Capabilities, Contents, ContentsFiles, Home, Spill, Stage, Staged};
use crate::unpack::{Error, Losses, Options, Progress, reading};

/// Where layers are extracted to.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// A directory for each layer of the image.
    pub(crate) homes: &'a [Home],
    pub(crate) spill: &'a Spill,
    pub(crate) capabilities: &'a Capabilities,
    /// Remove files that layers above replace or delete, if all layers are read.
    pub(crate) reclaim: bool,
}

/// Reads some layers into directories of their own.
pub(crate) fn extract(
    image: &Image,
    which: &[usize],
    target: &Target<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Vec<Extracted<Losses>>, Vec<Staged>), Error> {
    let &Target { homes, spill, capabilities, reclaim } = target;
    let reclaim = (reclaim && which.iter().copied().eq(0..homes.len())).then(|| Reclaim::new(reading(options)));
    // Each of those that are read at the same time has files open besides its directories.
    let at_once = jobs(options.jobs, which.len()).get().min(which.len()).max(1);
    let most_open = handles(8 * at_once as u64);
    let stage = |layer: usize, ahead| {
        Stage::new(layer, homes[layer].clone(), spill.clone(), capabilities.clone(), most_open, ahead)
    };
    let choose = |queue: &Queue<'_>| reclaim.as_ref().map_or_else(|| queue.first(), |reclaim| reclaim.choose(queue));
    let extracted = read_chosen(image, which, options, progress, &choose, &|layer, stream, read, tell| {
        // Where reading has threads of its own, finishing files has one too.
        let mut stage = stage(layer, stream.stream.pace() == Pace::Ahead);
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
    let mut staged: Vec<Option<Staged>> = homes.iter().map(|_| None).collect();
    let mut kept = Vec::new();
    for (layer, &index) in extracted.into_iter().zip(which) {
        let Extracted { record, facts, kept: (stage, losses), seconds } = layer;
        staged[index] = stage.or_else(|| stages.next());
        kept.push(Extracted { record: records.next().unwrap_or(record), facts, kept: losses, seconds });
    }
    // That of a layer that was not read is empty.
    let untouched = |layer| stage(layer, false).into_staged().0;
    let staged = staged.into_iter().enumerate().map(|(layer, staged)| staged.unwrap_or_else(|| untouched(layer)));
    Ok((kept, staged.collect()))
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
    let files = ContentsFiles::new(directory);
    read_layers(image, &all(image), options, progress, &|layer, stream, read, tell| {
        if !is_wanted(layer) {
            return Ok((read_layer(stream, &mut Discard::default(), read, tell)?, (None, Losses::default())));
        }
        let mut writer = files.writer()?;
        let record = read_layer(stream, &mut writer, read, tell)?;
        let (contents, losses) = files.finished(writer);
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
