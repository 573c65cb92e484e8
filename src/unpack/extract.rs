//! One extraction for both forms: every layer is read into a directory of its own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use rustix::process::{Resource, getrlimit};

use crate::blob::Pace;
use crate::core::layer::{Discard, read_layer};
use crate::image::Image;
use crate::unpack::read::{Extracted, read_layers};
use crate::unpack::stage::{Capabilities, Contents, ContentsWriter, Spill, Stage, Staged};
use crate::unpack::{Error, Losses, Options, Progress};

/// Directory handles that one stage keeps open where it may.
const MOST_OPEN: usize = 64;

/// Reads some layers into directories of their own, of which each layer has one.
pub(crate) fn extract(
    image: &Image,
    which: &[usize],
    roots: Vec<OwnedFd>,
    spill: &Spill,
    capabilities: &Capabilities,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Vec<Extracted<Losses>>, Vec<Staged>), Error> {
    let most_open = most_open(image.layers.len());
    let begin =
        |(layer, root)| Mutex::new(Some(Stage::new(layer, root, spill.clone(), capabilities.clone(), most_open)));
    let stages: Vec<Mutex<Option<Stage>>> = roots.into_iter().enumerate().map(begin).collect();
    let extracted = read_layers(image, which, options, progress, &|layer, stream, read, tell| {
        let stage = stages[layer].lock().ok().and_then(|mut stage| stage.take());
        let mut stage = stage.ok_or_else(|| std::io::Error::other("the layer was read before"))?;
        // Where reading has threads of its own, finishing files has one too.
        if stream.stream.pace() == Pace::Ahead {
            stage.finish_ahead();
        }
        let record = read_layer(stream, &mut stage, read, tell)?;
        Ok((record, stage.into_staged()))
    })?;
    let mut staged: Vec<Option<Staged>> = Vec::new();
    for stage in stages {
        staged.push(stage.into_inner().ok().flatten().map(|untouched| untouched.into_staged().0));
    }
    let mut kept = Vec::new();
    for (layer, &index) in extracted.into_iter().zip(which) {
        let Extracted { record, facts, kept: (stage, losses), seconds } = layer;
        let losses = losses.map(|name| record.names.path(name));
        staged[index] = Some(stage);
        kept.push(Extracted { record, facts, kept: losses, seconds });
    }
    Ok((kept, staged.into_iter().flatten().collect()))
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

/// Directory handles that each stage may keep open: the process's limit is for all of them, and for much else.
fn most_open(layers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX).checked_div(layers).unwrap_or(0).min(MOST_OPEN)
}
