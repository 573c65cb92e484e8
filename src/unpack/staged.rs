//! Unpacks one layer in two steps, for who has the layers of an image at the same time and learns only afterwards what
//! lies below each: containerd's snapshotters, where layers are unpacked in parallel.
//!
//! The first step, [`stage_layer`], reads the layer, and needs nothing of the others. What it leaves is a directory that
//! may be kept as long as need be, also by another process:
//!
//! ```text
//! tree/       the layer's files, where they will most likely stay
//! spill/      files that cannot be at their names yet
//! layer-N     the layer's record; N is the version of records
//! stage-N     what is where
//! ```
//!
//! The second step, [`settle_layer`], replays the layer on what lies below it, and makes `tree` the upper directory of an
//! overlay mount. It leaves `layer-N` for the layers on top: whoever keeps that beside the directory need not have it
//! read from disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::copies::Copies;
use super::fitness::Fitness;
use super::known::Known;
use super::layers::{allowed_namespace, write_file};
use super::over::{LayerOver, sizes_below, unread};
use super::settle::{Finish, Settler, Staging};
use super::{Ground, RESULT, check_memory, io, reading, settle_error, stage_name};
use crate::below::Lower;
use crate::core::overlayfs::XattrNamespace;
#[cfg(feature = "containerd")]
use crate::core::record::Attributes;
use crate::core::record::{RECORD_VERSION, Record};
use crate::core::stack::GrowingStack;
use crate::fs::{DestinationError, Durability, Work, handles, make_directory, open_directory, open_path, publishing};
use crate::image::{Image, Layer};
use crate::unpack::stage::{Capabilities, Home, Inventory, Spill, Staged};
use crate::unpack::{Error, Loss, Losses, NoProgress, Options};

/// The layer's files.
const TREE: &str = "tree";
/// Those that are not in their places yet.
const SPILL: &str = "spill";

/// What [`settle_layer`] leaves of a layer for those on top, in the directory that [`stage_layer`] made.
pub fn record_name() -> String {
    format!("layer-{RECORD_VERSION}")
}

fn inventory_name() -> String {
    format!("stage-{RECORD_VERSION}")
}

/// A layer's record, as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    /// Uncompressed bytes of the layer.
    expanded: u64,
    record: Record,
}

/// What a layer is put on. With nothing in it, it is an image's lowest.
#[derive(Debug, Clone, Default)]
pub struct Underneath {
    /// Directories of which no record is there, the topmost first, with all that is below them: they are read.
    pub lower: Vec<PathBuf>,
    /// Layers above those that [`settle_layer`] has made, the lowest first.
    pub settled: Vec<SettledLayer>,
}

/// A layer that [`settle_layer`] has made.
#[derive(Debug, Clone)]
pub struct SettledLayer {
    /// Its directory.
    pub directory: PathBuf,
    /// The file [`record_name`], wherever it is now.
    pub record: PathBuf,
}

/// What became of a staged layer.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Whether its directory has anything in it, or changes the root's attributes.
    pub has_changes: bool,
    /// What the destination could not hold, besides what staging has told (rule A4).
    pub not_kept: Vec<Loss>,
}

/// Reads a layer into a directory of its own, from which it can be settled on whatever lies below it.
///
/// The destination appears whole or not at all (rule S2); what is there is replaced, if [`Options::replace`] is set. It is
/// not waited for until it is on disk: [`settle_layer`] does that.
///
/// # Errors
/// A damaged or hostile layer, a digest that is not the stated one, a destination that cannot be used or written.
pub fn stage_layer(layer: &Layer, destination: &Path, options: &Options) -> Result<LayerOver, Error> {
    let work = Work::beside_itself(destination, options.replace, Durability::Unsynced)?;
    let namespace = match options.xattr_namespace {
        Some(namespace) => namespace,
        None => allowed_namespace(work.directory())?,
    };
    let image = Image { name: None, manifest: None, config: None, layers: vec![layer.clone()], notices: Vec::new() };
    let ground = Ground::prepare(&image, work, Some(namespace), options, &NoProgress)?;
    let Ground { work, records, staging: Staging { mut stages, .. }, layers, losses, .. } = ground;
    let result = work.make(RESULT).map_err(io("cannot make the result"))?;
    for (from, to) in [(stage_name(0).as_str(), TREE), (SPILL, SPILL)] {
        rustix::fs::renameat(work.directory(), from, &result, to).map_err(io("cannot move a layer"))?;
    }
    let (Some(staged), Some(record), Some(report)) =
        (stages.pop(), records.into_iter().next(), layers.into_iter().next())
    else {
        return Err(Error::Cancelled);
    };
    write(result.as_fd(), &inventory_name(), &staged.inventory())?;
    write(result.as_fd(), &record_name(), &Kept { expanded: report.expanded, record })?;
    drop(staged);
    work.publish(RESULT, |_| Ok(()))?;
    let not_kept = losses.into_iter().fold(Losses::default(), |mut all, more| {
        all.merge(more);
        all
    });
    Ok(LayerOver {
        digest: report.digest,
        diff_id: report.diff_id,
        expanded: report.expanded,
        entries: report.entries,
        not_kept: not_kept.into_list(),
    })
}

/// Makes a staged layer the upper directory of an overlay mount of what lies below it, and puts it at the destination,
/// which must not be there yet, or be empty, and on the same file system. Its whiteouts, and those below, are in
/// [`Options::xattr_namespace`]; without it, as privilege allows (rule O5).
///
/// It has the attributes of the root that the mount is to show, also where the layer changes nothing. Whatever ends this
/// early leaves a staged layer that is of no use any more, and no destination.
///
/// ```
/// use layflat::transport::source::OpenOptions;
/// use layflat::unpack::{SettledLayer, Underneath, record_name, settle_layer, stage_layer};
/// use layflat::Options;
///
/// let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
/// let (place, options) = (tempfile::tempdir()?, Options::default());
/// let staged = |number: usize| place.path().join(format!("{number}.staged"));
/// // In any order, and at the same time.
/// for (number, layer) in image.layers.iter().enumerate().rev() {
///     assert_eq!(Some(stage_layer(layer, &staged(number), &options)?.diff_id), layer.diff_id);
/// }
/// // From the bottom up.
/// let mut below = Underneath::default();
/// for number in 0..image.layers.len() {
///     let directory = place.path().join(number.to_string());
///     settle_layer(&staged(number), &below, &directory, &options)?;
///     below.settled.push(SettledLayer { directory, record: staged(number).join(record_name()) });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A layer that does not fit on what is below it, lower directories that cannot be read, a destination that cannot be
/// used or written.
pub fn settle_layer(
    staged: &Path,
    below: &Underneath,
    destination: &Path,
    options: &Options,
) -> Result<Settled, Error> {
    let base = Base::read(below, namespace(&place(staged)?, options)?, options)?;
    settle_layer_on(staged, base, destination, options).map(|(settled, _)| settled)
}

/// The same on layers that were read before; what the next one on top may be settled on.
///
/// # Errors
/// As [`settle_layer`]; then what was read is lost.
pub(crate) fn settle_layer_on(
    staged: &Path,
    mut base: Base,
    destination: &Path,
    options: &Options,
) -> Result<(Settled, Base), Error> {
    let place = Arc::new(place(staged)?);
    let namespace = namespace(&place, options)?;
    let spill = Spill::new(open_directory(&place, SPILL.as_bytes()).map_err(io("cannot open the staged layer"))?);
    let capabilities = Capabilities::probe(spill.directory(), Some(namespace), options)
        .map_err(io("cannot find out what the destination can hold"))?;
    let fitness = Fitness::probe(place.as_fd(), namespace)?;

    base.add(read(&staged.join(record_name()))?, None, options)?;
    let Base { stack, known, bytes, entries, .. } = &mut base;
    let own = stack.len() - 1;
    let copies = Copies::of_sizes((*bytes, *entries), &options.limits);
    let settled = stack.replay(reading(options), |stack, records| -> Result<_, Error> {
        let difference = &stack.layers()[own];
        fitness.check(stack, std::slice::from_ref(difference))?;
        if difference.entries().is_empty() {
            // Whatever is in it is not shown.
            rustix::fs::renameat(&place, TREE, &place, "nothing").map_err(io("cannot move a layer"))?;
            drop(make_directory(&place, TREE, Mode::RWXU).map_err(io("cannot make the result"))?);
            return Ok((false, stack.shown_root(), Losses::default()));
        }
        let inventory: Inventory = read(&staged.join(inventory_name()))?;
        let home = Home::new(&place, TREE.to_owned());
        let nothing = |layer| Staged::of(Inventory::nothing(), layer, home.clone(), spill.clone(), 0);
        let mut stages: Vec<Staged> = (0..own).map(nothing).collect();
        stages.push(Staged::of(inventory, own, home.clone(), spill.clone(), handles(8)));
        let mut staging = Staging { stages, spill: spill.clone(), capabilities: capabilities.clone() };
        let mut settler =
            Settler::new(stack, records, &mut staging, Finish::Overlay(namespace), copies, options).knowing(known);
        settler.settle(own, difference).map_err(settle_error)?;
        Ok((true, stack.root_attributes(difference), settler.losses))
    });
    let (has_changes, root, losses) = settled??;
    let not_kept = losses.into_list();
    if let (true, Some(first)) = (options.strict, not_kept.first()) {
        return Err(first.refused());
    }
    put(&place, destination, options, |directory| capabilities.set_root(directory, &root))?;
    base.known[own] = Some(Known::tree_at(Some(destination.to_owned())));
    Ok((Settled { has_changes, not_kept }, base))
}

fn place(staged: &Path) -> Result<OwnedFd, Error> {
    open_path(staged).map_err(io("cannot open the staged layer"))
}

fn namespace(place: &OwnedFd, options: &Options) -> Result<XattrNamespace, Error> {
    match options.xattr_namespace {
        Some(namespace) => Ok(namespace),
        None => allowed_namespace(place.as_fd()),
    }
}

/// Layers on one another, as far as the next one on top needs to know them: names, attributes and places, no contents.
#[derive(Debug, Default)]
pub(crate) struct Base {
    stack: GrowingStack,
    /// Of each layer where its files are.
    known: Vec<Option<Known>>,
    /// Uncompressed bytes of all layers.
    bytes: u64,
    /// Their entries.
    entries: u64,
    /// Bytes that it takes, about.
    memory: u64,
}

impl Base {
    /// Reads what lies below a layer.
    pub(crate) fn read(below: &Underneath, namespace: XattrNamespace, options: &Options) -> Result<Self, Error> {
        let mut base = Self::default();
        if !below.lower.is_empty() {
            let read = Lower::read(&below.lower, namespace, &options.limits, &options.cancel);
            let (record, lower) = read.map_err(|error| unread(error, options))?;
            let expanded = sizes_below(&record);
            base.add(Kept { expanded, record }, Some(Known::Lower(lower)), options)?;
        }
        // Not more of them is read than may be.
        for SettledLayer { directory, record } in &below.settled {
            base.add(read(record)?, Some(Known::tree_at(Some(directory.clone()))), options)?;
        }
        Ok(base)
    }

    /// Bytes of memory that it takes, about (rule S10).
    #[cfg(feature = "containerd")]
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    fn add(&mut self, layer: Kept, known: Option<Known>, options: &Options) -> Result<(), Error> {
        let Kept { expanded, record } = layer;
        self.bytes = self.bytes.saturating_add(expanded);
        self.entries += record.changes.len() as u64;
        self.memory = self.memory.saturating_add(record.memory());
        check_memory(self.memory, options)?;
        self.stack.push(record);
        self.known.push(known);
        Ok(())
    }
}

/// Gives a directory the attributes of a tree's root, as they are to be seen through an overlay mount.
#[cfg(feature = "containerd")]
pub(crate) fn set_root(
    directory: OwnedFd,
    attributes: &Attributes,
    namespace: XattrNamespace,
    owners: crate::unpack::Owners,
) -> rustix::io::Result<()> {
    let options = Options { owners, ..Options::default() };
    let capabilities = Capabilities::probe(directory.as_fd(), Some(namespace), &options)?;
    capabilities.set_root(directory.as_fd(), attributes)
}

/// Writes all to disk, and then puts the tree in its place.
fn put(
    place: &OwnedFd,
    destination: &Path,
    options: &Options,
    set_root: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> Result<(), Error> {
    let path = || destination.to_owned();
    let failed = |error: rustix::io::Errno| DestinationError::Publish { path: path(), error: error.into() };
    let unsynced = |error: rustix::io::Errno| DestinationError::Sync { path: path(), error: error.into() };
    let durability = options.durability();
    durability.sync_tree(place).map_err(unsynced)?;
    let publishing = publishing().map_err(failed)?;
    rustix::fs::renameat(place, TREE, rustix::fs::CWD, destination).map_err(failed)?;
    // Once more where it lies now: a mode that forbids to move it had to wait.
    let root = open_path(destination).map_err(failed)?;
    set_root(root.as_fd()).map_err(failed)?;
    drop(publishing);
    durability.sync(&root).map_err(unsynced)?;
    if let Some(parent) = destination.parent() {
        open_path(parent).and_then(|parent| durability.sync(parent)).map_err(unsynced)?;
    }
    Ok(())
}

fn write(directory: BorrowedFd<'_>, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let bytes = postcard::to_allocvec(value).map_err(std::io::Error::other);
    write_file(directory, name, &bytes.map_err(io::<std::io::Error>(format!("cannot write {name}")))?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |problem: String| Error::Description { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    postcard::from_bytes(&bytes).map_err(|error| failed(error.to_string()))
}
