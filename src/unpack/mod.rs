//! The two ways to unpack a stack: overlay layers and a flat rootfs. One extraction, two finishes.

pub mod cached;
mod error;
pub(crate) mod extract;
mod fitness;
mod flat;
mod layers;
mod options;
pub(crate) mod read;
mod report;
mod settle;
mod share;
pub(crate) mod stage;

use std::time::Instant;

use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Record;
use crate::core::stack::{Reading, Stack};
use crate::fs::Work;
use crate::image::{Image, Notice, chain_ids};
use crate::unpack::stage::{Holder, Spill, Staged};

pub use error::{Error, WhichLayer};
pub use fitness::Unfit;
pub use flat::flatten;
pub use layers::layers;
pub use options::{OVERRIDE_STAT, Options, Owners};
pub(crate) use report::Losses;
pub use report::{LayerReport, Loss, LossKind, NoProgress, Progress, Report, Seconds};

/// The directory of the work directory that becomes the result.
const RESULT: &str = "result";

/// Everything that both forms need, once all layers are read.
struct Ground {
    work: Work,
    holder: Holder,
    spill: Spill,
    records: Vec<Record>,
    stages: Vec<Staged>,
    layers: Vec<LayerReport>,
    losses: Losses,
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
        let started = Instant::now();
        let spill = Spill::new(work.make("spill").map_err(io("cannot make the work directory"))?);
        let holder = Holder::probe(spill.directory(), escape, options)
            .map_err(io("cannot find out what the destination can hold"))?;
        let roots = (0..image.layers.len())
            .map(|layer| work.make(&stage_name(layer)).map_err(io("cannot make the work directory")))
            .collect::<Result<_, Error>>()?;
        let extracted = extract::extract(image, roots, &spill, &holder, options, progress)?;

        let mut ground = Self {
            work,
            holder,
            spill,
            records: Vec::new(),
            stages: Vec::new(),
            layers: Vec::new(),
            losses: Losses::default(),
            started,
            read_seconds: started.elapsed().as_secs_f64(),
        };
        let chain_ids = chain_ids(&diff_ids(&extracted));
        for (layer, chain_id) in extracted.into_iter().zip(chain_ids) {
            let (staged, losses) = layer.kept;
            ground.layers.push(LayerReport::of_layer(&layer.facts, &layer.record, chain_id, layer.seconds));
            ground.records.push(layer.record);
            ground.stages.push(staged);
            ground.losses.merge(losses);
        }
        progress.settling();
        Ok(ground)
    }

    fn report(
        self,
        image: &Image,
        form: &'static str,
        xattr_namespace: Option<XattrNamespace>,
        options: &Options,
    ) -> Result<(Report, Work), Error> {
        let total = self.started.elapsed().as_secs_f64();
        let seconds = Seconds { read: self.read_seconds, settle: total - self.read_seconds, total };
        let mut report = report(image, form, self.layers, self.losses, seconds, options)?;
        report.xattr_namespace = xattr_namespace;
        Ok((report, self.work))
    }
}

/// What was done; an error where something was lost that must not be.
pub(crate) fn report(
    image: &Image,
    form: &'static str,
    layers: Vec<LayerReport>,
    losses: Losses,
    seconds: Seconds,
    options: &Options,
) -> Result<Report, Error> {
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
        not_kept: losses.into_list(),
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
    Ok(Stack::replay(records, reading(options))?)
}

pub(crate) fn reading(options: &Options) -> Reading {
    Reading { ignore_root_entry: options.ignore_root_entry, filter: options.filter.clone() }
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
