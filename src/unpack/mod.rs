//! Unpacks a stack, either into one root file system or into a directory per layer for overlayfs. Both extract all
//! layers first, and differ in the second step.

pub mod cached;
mod copies;
mod error;
pub(crate) mod extract;
mod fitness;
mod flat;
mod known;
mod layers;
mod options;
mod over;
mod queue;
pub(crate) mod read;
mod reclaim;
mod report;
mod settle;
mod share;
pub(crate) mod stage;
mod staged;

use std::sync::Arc;
use std::time::Instant;

use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Record;
use crate::core::stack::{Reading, Stack};
use crate::fs::Work;
use crate::image::{Image, Notice, chain_ids};
use crate::unpack::stage::{Capabilities, Home, Spill};
use settle::Staging;

pub use copies::TooManyCopies;
pub use error::{Error, WhichLayer};
pub use fitness::Unfit;
pub use flat::flatten;
pub(crate) use flat::flatten_into;
pub use layers::{layers, mstack};
pub use options::{OVERRIDE_STAT, Options, Owners};
#[cfg(feature = "containerd")]
pub(crate) use over::unread;
pub use over::{LayerOver, layer_over};
pub use report::{LayerReport, Loss, LossKind, Made, NoProgress, Progress, Report, Seconds};
pub(crate) use report::{Losses, merged};
pub use stage::AttributeProbe;
#[cfg(feature = "containerd")]
pub(crate) use staged::{Base, set_root, settle_layer_on};
pub use staged::{Settled, SettledLayer, Underneath, record_name, settle_layer, stage_layer};

/// The directory of the work directory that becomes the result.
const RESULT: &str = "result";

/// Everything that both forms need, once all layers are read.
struct Ground {
    work: Work,
    staging: Staging,
    records: Vec<Record>,
    layers: Vec<LayerReport>,
    /// What was lost, for each layer that was read, and then what was lost when they were settled.
    losses: Vec<Losses>,
    started: Instant,
    read_seconds: f64,
}

impl Ground {
    /// Reads all layers into directories in the work directory.
    fn prepare(
        image: &Image,
        work: Work,
        escape: Option<XattrNamespace>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        Self::prepare_unknown(image, work, escape, &vec![None; image.layers.len()], options, progress)
    }

    /// The same, but for the layers whose DiffIDs are given: those are not read. There are records and reports of the
    /// others.
    fn prepare_unknown(
        image: &Image,
        work: Work,
        escape: Option<XattrNamespace>,
        known: &[Option<Digest>],
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let spill = Spill::new(work.make("spill").map_err(io("cannot make the work directory"))?);
        let capabilities = Capabilities::probe(spill.directory(), escape, options)
            .map_err(io("cannot find out what the destination can hold"))?;
        let parent = Arc::new(
            rustix::io::fcntl_dupfd_cloexec(work.directory(), 0).map_err(io("cannot open the work directory"))?,
        );
        let home = |layer| {
            work.make(&stage_name(layer)).map_err(io("cannot make the work directory"))?;
            Ok(Home::new(&parent, stage_name(layer)))
        };
        let homes: Vec<Home> = (0..image.layers.len()).map(home).collect::<Result<_, Error>>()?;
        let which: Vec<usize> = (0..known.len()).filter(|&layer| known[layer].is_none()).collect();
        let target =
            extract::Target { homes: &homes, spill: &spill, capabilities: &capabilities, reclaim: escape.is_none() };
        let (extracted, stages) = extract::extract(image, &which, &target, options, progress)?;

        let mut read = diff_ids(&extracted).into_iter();
        let diff_ids: Vec<Digest> = known.iter().filter_map(|known| known.clone().or_else(|| read.next())).collect();
        let chain_ids = chain_ids(&diff_ids);
        let mut ground = Self {
            work,
            staging: Staging { stages, spill, capabilities },
            records: Vec::new(),
            layers: Vec::new(),
            losses: Vec::new(),
            started,
            read_seconds: started.elapsed().as_secs_f64(),
        };
        for (layer, index) in extracted.into_iter().zip(which) {
            let chain_id = chain_ids[index].clone();
            ground.layers.push(LayerReport::of_layer(&layer.facts, &layer.record, chain_id, layer.seconds));
            ground.records.push(layer.record);
            ground.losses.push(layer.kept);
        }
        progress.settling();
        Ok(ground)
    }

    fn report(
        self,
        image: &Image,
        form: &'static str,
        made: Made,
        xattr_namespace: Option<XattrNamespace>,
        options: &Options,
    ) -> Result<(Report, Work), Error> {
        let total = self.started.elapsed().as_secs_f64();
        let seconds = Seconds { read: self.read_seconds, settle: total - self.read_seconds, total };
        let mut losses = Losses::default();
        for more in self.losses {
            losses.merge(more);
        }
        let mut report = report(image, form, self.layers, made, losses, seconds, options)?;
        report.xattr_namespace = xattr_namespace;
        Ok((report, self.work))
    }
}

/// What was done; an error where something was lost that must not be.
pub(crate) fn report(
    image: &Image,
    form: &'static str,
    layers: Vec<LayerReport>,
    made: Made,
    losses: Losses,
    seconds: Seconds,
    options: &Options,
) -> Result<Report, Error> {
    let losses = losses.into_list();
    // Counted as what there was to make.
    let left_out: u64 = losses.iter().map(Loss::left_out).sum();
    let made = Made { files: made.files.saturating_sub(left_out), ..made };
    let report = Report {
        image: image.name.clone(),
        image_digest: image.manifest_digest().cloned(),
        config_digest: image.config.as_ref().map(|config| config.digest.clone()),
        form,
        destination: std::path::PathBuf::new(),
        xattr_namespace: None,
        entries: layers.iter().map(|layer| layer.entries).sum(),
        size: layers.iter().map(|layer| layer.size).sum(),
        expanded: layers.iter().map(|layer| layer.expanded).sum(),
        notices: notices(image, layers.iter().map(|layer| &layer.digest)),
        layers,
        made,
        not_kept: losses,
        seconds,
    };
    if options.strict {
        report.refuse_losses()?;
    }
    Ok(report)
}

/// What is not as it should be about an image whose layers have these digests.
pub(crate) fn notices<'a>(image: &Image, digests: impl Iterator<Item = &'a Digest>) -> Vec<Notice> {
    let misnamed = image.layers.iter().zip(digests).filter_map(|(layer, found)| layer.misnamed(found));
    image.notices.iter().cloned().chain(misnamed).collect()
}

/// The DiffIDs of layers that were read, bottom first.
pub(crate) fn diff_ids<T>(extracted: &[crate::unpack::read::Extracted<T>]) -> Vec<Digest> {
    extracted.iter().map(|layer| layer.facts.diff_id.clone()).collect()
}

pub(crate) fn replay<'r>(records: &'r [Record], options: &Options) -> Result<Stack<'r>, Error> {
    check_memory_of(records, options)?;
    Ok(Stack::replay(records, reading(options))?)
}

/// The same for what the layers show together ([`Stack::replay_shown`]).
pub(crate) fn replay_shown<'r>(records: &'r [Record], options: &Options) -> Result<Stack<'r>, Error> {
    check_memory_of(records, options)?;
    Ok(Stack::replay_shown(records, reading(options))?)
}

fn check_memory_of(records: &[Record], options: &Options) -> Result<(), Error> {
    if options.limits.limit_memory() {
        check_memory(records.iter().map(Record::memory).sum(), options)?;
    }
    Ok(())
}

/// Whether there may be records of so many bytes.
pub(crate) fn check_memory(bytes: u64, options: &Options) -> Result<(), Error> {
    let exceeded = |(what, limit, name)| Error::Limit { what, limit, name };
    options.limits.check_memory(bytes).map_err(exceeded)
}

pub(crate) fn reading(options: &Options) -> Reading {
    Reading {
        ignore_root_entry: options.ignore_root_entry,
        filter: options.filter.clone(),
        limits: options.limits,
        cancel: options.cancel.clone(),
    }
}

fn stage_name(layer: usize) -> String {
    format!("stage-{layer}")
}

pub(crate) fn io<E: Into<std::io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |error| Error::Io { action: action.into(), error: error.into() }
}

fn settle_error(error: settle::SettleError) -> Error {
    match error {
        settle::SettleError::Cancelled => Error::Cancelled,
        settle::SettleError::File { path, error } => Error::Write { path, error: error.into() },
    }
}
