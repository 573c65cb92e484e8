//! Unpacks one layer over lower directories that lie on disk, as the upper directory of an overlay mount: for who keeps
//! unpacked layers himself, like containerd's snapshotters, and has them one after the other.
//!
//! What is below is read from the lower directories, and stands for one layer. The rest is as for
//! [`layers`](super::layers()): the layer is replayed on it, and the directory holds the difference.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::copies::Copies;
use super::fitness::Fitness;
use super::known::Known;
use super::layers::allowed_namespace;
use super::settle::{Finish, Settler, Staging};
use super::{Ground, RESULT, io, replay, settle_error, stage_name};
use crate::below::{BelowError, Lower};
use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::core::record::{ChangeKind, Record};
use crate::fs::Work;
use crate::image::{Image, Layer};
use crate::parallel;
use crate::tree::TreeError;
use crate::unpack::{Error, Loss, Losses, NoProgress, Options};

/// The layer's number in the stack, in which all that is below counts as one.
const OWN: usize = 1;

/// A layer that was unpacked over others.
#[derive(Debug, Clone)]
pub struct LayerOver {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Uncompressed bytes.
    pub expanded: u64,
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// What the destination could not hold (rule A4).
    pub not_kept: Vec<Loss>,
}

/// Unpacks a layer as the upper directory of an overlay mount of these lower directories, the topmost first. Their
/// whiteouts are in [`Options::xattr_namespace`], as the new ones will be; without it, as privilege allows (rule O5).
///
/// The destination appears whole or not at all (rule S2), and has the attributes of the root that the mount is to show,
/// also where the layer changes nothing. It must not be there yet, or be empty, unless [`Options::replace`] is set.
///
/// ```
/// use layflat::image::Layer;
/// use layflat::transport::source::OpenOptions;
/// use layflat::Options;
///
/// let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
/// let place = tempfile::tempdir()?;
/// let mut lower = Vec::new();
/// for (number, layer) in image.layers.iter().enumerate() {
///     let upper = place.path().join(number.to_string());
///     let unpacked = layflat::unpack::layer_over(layer, &lower, &upper, &Options::default())?;
///     assert_eq!(Some(unpacked.diff_id), layer.diff_id);
///     lower.insert(0, upper);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A damaged or hostile layer, a digest that is not the stated one, lower directories that cannot be read, a destination
/// that cannot be used or written.
pub fn layer_over(layer: &Layer, lower: &[PathBuf], destination: &Path, options: &Options) -> Result<LayerOver, Error> {
    let work = Work::beside(destination, options.replace, options.durability())?;
    let namespace = match options.xattr_namespace {
        Some(namespace) => namespace,
        None => allowed_namespace(work.directory())?,
    };
    let fitness = Fitness::probe(work.directory(), namespace)?;
    let below = Layer::bare(Blob::from_bytes(Vec::new()));
    let image =
        Image { name: None, manifest: None, config: None, layers: vec![below, layer.clone()], notices: Vec::new() };
    // That of nothing: it is not asked for.
    let known = [Some(Digest::sha256_of(b"")), None];
    let read_below = || Lower::read(lower, namespace, &options.limits, &options.cancel);
    let prepare = || Ground::prepare_unknown(&image, work, Some(namespace), &known, options, &NoProgress);
    let (below, ground) = match options.jobs.map(NonZero::get) {
        Some(1) => (read_below(), prepare()),
        _ => parallel::both(read_below, prepare),
    };
    let mut ground = ground?;
    let (below, lower) = below.map_err(|error| unread(error, options))?;
    let records: Vec<Record> = std::iter::once(below).chain(std::mem::take(&mut ground.records)).collect();
    let stack = replay(&records, options)?;
    fitness.check(&stack, stack.layers())?;

    let difference = &stack.layers()[OWN];
    let root = if difference.entries().is_empty() {
        drop(ground.work.make(RESULT).map_err(io("cannot make the result"))?);
        stack.shown_root()
    } else {
        let known = [Some(Known::Lower(lower)), None];
        let copies = Copies::of_sizes(sizes(&records[0], &ground), &options.limits);
        let mut settler =
            Settler::new(&stack, &records, &mut ground.staging, Finish::Overlay(namespace), copies, options)
                .knowing(&known);
        settler.settle(OWN, difference).map_err(settle_error)?;
        let losses = settler.losses;
        ground.losses.push(losses);
        rustix::fs::renameat(ground.work.directory(), stage_name(OWN), ground.work.directory(), RESULT)
            .map_err(io("cannot move the result"))?;
        stack.root_attributes(difference)
    };
    let Ground { work, staging: Staging { stages, capabilities, .. }, layers, losses, .. } = ground;
    drop(stages);
    let mut not_kept = Losses::default();
    for more in losses {
        not_kept.merge(more);
    }
    let not_kept = not_kept.into_list();
    if let (true, Some(first)) = (options.strict, not_kept.first()) {
        return Err(first.refused());
    }
    // Once more where it lies now: a mode that forbids to move it had to wait.
    work.publish(RESULT, |directory| capabilities.set_root(directory, &root))?;
    let report = layers.into_iter().next().ok_or(Error::Cancelled)?;
    Ok(LayerOver {
        digest: report.digest,
        diff_id: report.diff_id,
        expanded: report.expanded,
        entries: report.entries,
        not_kept,
    })
}

/// Bytes and entries of all layers, by which copies are limited.
fn sizes(below: &Record, ground: &Ground) -> (u64, u64) {
    let bytes = ground.layers.iter().map(|layer| layer.expanded).fold(sizes_below(below), u64::saturating_add);
    (bytes, below.changes.len() as u64 + ground.layers.iter().map(|layer| layer.entries).sum::<u64>())
}

/// Bytes of the files that are shown below, holes counted; no more is ever copied than is there.
pub(super) fn sizes_below(below: &Record) -> u64 {
    let sizes = below.changes.iter().map(|change| match change.kind {
        ChangeKind::File { size, .. } => size,
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

pub(crate) fn unread(error: BelowError, options: &Options) -> Error {
    match error {
        BelowError::Tree(TreeError::Cancelled) => Error::Cancelled,
        _ if options.cancel.is_cancelled() => Error::Cancelled,
        BelowError::Limit { what, limit, name } => Error::Limit { what, limit, name },
        error => Error::Below(error.into()),
    }
}
