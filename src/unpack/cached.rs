//! Unpacked layers in the cache: a layer that was unpacked once, above the same layers, is not unpacked again.
//!
//! A layer is kept under its ChainID, which stands for the layer and for all below it, and all options that change what is
//! unpacked: what it holds depends on nothing else, since no layer changes what is below it. So images share the layers
//! that they have in common from the bottom on, and unpacking an image means unpacking those of its layers that are not
//! there yet. With each layer its record is kept, so that the stack can be replayed without reading the layers below.
//!
//! Of several processes that want a layer one unpacks it, and the others wait. What is damaged is removed and unpacked
//! anew, and what the file system could not hold is remembered beside each layer (rules S8 and A4).

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::copies::Copies;
use super::fitness::Fitness;
use super::known::Known;
use super::layers::{allowed_namespace, write_file};
use super::settle::{Finish, Settler};
use super::stage::Home;
use super::{Ground, io, replay, settle_error, stage_name};
use crate::cache::{
    Description, Found, IMAGES, KeptImage, KeptLayer, LAYERS, Lock, Of, TREE, Turn, file_name, find_image,
    lower_directory, read_file, sweep,
};
use crate::core::chain::{Cause, Context};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::{Attributes, RECORD_VERSION, Record};
use crate::fs::{DestinationError, Work, make_directory, open_path, publishing, remove_contents};
use crate::image::{Image, chain_ids};
use crate::lowerdirs::{FILE_NAME, LayerDirectory, Layout};
use crate::parallel;
use crate::unpack::{Error, LayerReport, Loss, Losses, Options, Owners, Progress, merged};
use crate::userns::in_user_namespace;

/// What the file system could not hold, beside a layer's tree.
const LOSSES: &str = "losses.json";

/// Unpacked layers of an image in the cache, which are not removed from there as long as this is held, or as long as
/// they are mounted.
#[derive(Debug)]
pub struct CachedLayers {
    path: PathBuf,
    not_kept: Vec<Loss>,
    repaired: Option<String>,
    _image: KeptImage,
}

impl CachedLayers {
    /// The directory with their description.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file system could not hold when they were unpacked (rule A4).
    pub fn not_kept(&self) -> &[Loss] {
        &self.not_kept
    }

    /// What was wrong with the ones that were there before, and so were unpacked anew.
    pub fn repaired(&self) -> Option<&str> {
        self.repaired.as_deref()
    }
}

/// The unpacked layers of an image in the cache directory `cache`. Those that are not there, or damaged, are unpacked;
/// if another process is at that, it is waited for. A filter of `options` is passed over: what is kept under a digest is
/// what it stands for.
///
/// # Errors
/// As for [`layers`](super::layers()).
pub fn overlay(image: &Image, cache: &Path, options: &Options, progress: &dyn Progress) -> Result<CachedLayers, Error> {
    let options = &Options { replace: false, filter: Filter::default(), ..options.clone() };
    // An ordinary user's own form is in the user namespace, and root's is of no use to others.
    let namespaces = [XattrNamespace::Trusted, XattrNamespace::User]
        .into_iter()
        .filter(|namespace| options.xattr_namespace.is_none_or(|wanted| wanted == *namespace));
    if let Some((config, lower)) = image.config.as_ref().zip(options.lower_cache.as_deref()) {
        let store = Store::in_cache(Of::Lower, lower, options);
        for namespace in namespaces.clone() {
            if let Found::Whole(kept) = store.find(&store.image(&config.digest, namespace)) {
                return checked(kept, options);
            }
        }
    }
    let store = Store::open(cache, options)?;
    let mut repaired = None;
    if let Some(config) = &image.config {
        for namespace in namespaces {
            match store.find(&store.image(&config.digest, namespace)) {
                Found::Whole(kept) => return checked(kept, options),
                Found::Damaged(problem) => repaired = Some(problem),
                Found::Nothing => {}
            }
        }
    }
    let kept = store.make(image, &mut repaired, progress)?;
    checked(CachedLayers { repaired, ..kept }, options)
}

/// What is wrong with the unpacked layers of an image in a cache, if their directory is one of a cache; they are not
/// removed as long as the value is held.
///
/// # Errors
/// What is wrong.
pub(crate) fn hold(directory: &Path) -> Result<Option<KeptImage>, String> {
    let is_shared = crate::lowerdirs::describe(directory).is_ok_and(|layout| layout.format == Layout::SHARED);
    if !is_shared {
        return Ok(None);
    }
    match find_image(Of::Own, directory) {
        Found::Whole(image) => Ok(Some(image)),
        Found::Damaged(problem) => Err(problem),
        Found::Nothing => Err("it was removed".to_owned()),
    }
}

/// Layers that have lost something are not for who wants all of it.
fn checked(kept: CachedLayers, options: &Options) -> Result<CachedLayers, Error> {
    match kept.not_kept.first() {
        Some(first) if options.strict => Err(first.refused()),
        _ => Ok(kept),
    }
}

/// Where the layers of one image are kept, with some options.
struct Store<'a> {
    layers: PathBuf,
    images: PathBuf,
    of: Of,
    options: &'a Options,
}

/// What there is of a layer.
enum Slot {
    /// It is there, with its record.
    Kept(KeptLayer, Record),
    /// It is not there, and nobody else makes it.
    Mine { _turn: Turn },
    /// What it is is only known when it is read.
    Unknown,
}

impl<'a> Store<'a> {
    fn open(cache: &Path, options: &'a Options) -> Result<Self, Error> {
        let store = Self::in_cache(Of::Own, cache, options);
        for directory in [&store.layers, &store.images] {
            // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| Error::Io {
                action: format!("cannot make the cache directory {directory:?}"),
                error,
            })?;
        }
        Ok(store)
    }

    fn in_cache(of: Of, cache: &Path, options: &'a Options) -> Self {
        Self { layers: cache.join(LAYERS), images: cache.join(IMAGES), of, options }
    }

    fn image(&self, id: &Digest, namespace: XattrNamespace) -> PathBuf {
        self.images.join(key(id, namespace, self.options))
    }

    /// The unpacked layers of an image, if all of them are there.
    fn find(&self, path: &Path) -> Found<CachedLayers> {
        match find_image(self.of, path) {
            Found::Nothing => Found::Nothing,
            Found::Damaged(problem) => Found::Damaged(problem),
            Found::Whole(image) => {
                let losses: Result<Vec<_>, String> = image
                    .layers
                    .iter()
                    .map(|(path, description)| losses(&read_file(path, description, LOSSES)?))
                    .collect();
                match losses {
                    Ok(losses) => Found::Whole(CachedLayers {
                        path: path.to_owned(),
                        not_kept: merged(losses),
                        repaired: None,
                        _image: image,
                    }),
                    Err(problem) => Found::Damaged(problem),
                }
            }
        }
    }

    /// Finds a layer, or takes the turn to make it.
    fn claim(&self, key: &str, repaired: &mut Option<String>) -> Result<Slot, Error> {
        let path = self.layers.join(key);
        if let Ok(Some(slot)) = kept(&path) {
            return Ok(slot);
        }
        let turn = Turn::take(&self.layers, key, &self.options.waiting(), &format_args!("unpacks layer {key}"));
        let turn = turn.ok_or(Error::Cancelled)?;
        match kept(&path) {
            // Who was waited for has made it.
            Ok(Some(slot)) => Ok(slot),
            Ok(None) => Ok(Slot::Mine { _turn: turn }),
            Err(problem) => {
                *repaired = Some(clear(&path, format!("layer {key}: {problem}"))?);
                Ok(Slot::Mine { _turn: turn })
            }
        }
    }

    /// Unpacks the layers of an image that are not there.
    fn make(
        &self,
        image: &Image,
        repaired: &mut Option<String>,
        progress: &dyn Progress,
    ) -> Result<CachedLayers, Error> {
        let options = self.options;
        sweep(&self.layers);
        let work = Work::beside(&self.layers.join("image"), false, options.durability())?;
        let namespace = match options.xattr_namespace {
            Some(namespace) => namespace,
            None => allowed_namespace(work.directory())?,
        };
        let fitness = Fitness::probe(work.directory(), namespace)?;
        let key = |id: &Digest| key(id, namespace, options);

        // From the bottom up: by that no two processes wait for each other.
        let mut slots: Vec<Slot> = Vec::new();
        let stated: Option<Vec<Digest>> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        match &stated {
            Some(diff_ids) => {
                for chain_id in chain_ids(diff_ids) {
                    slots.push(self.claim(&key(&chain_id), repaired)?);
                }
            }
            None => slots.resize_with(image.layers.len(), || Slot::Unknown),
        }
        let known: Vec<Option<Digest>> = slots.iter().map(Slot::diff_id).collect();
        let mut ground = Ground::prepare_unknown(image, work, Some(namespace), &known, options, progress)?;
        let mut read = ground.layers.iter().map(|layer| layer.diff_id.clone());
        let diff_ids: Vec<Digest> = known.into_iter().filter_map(|known| known.or_else(|| read.next())).collect();
        let chain_ids = chain_ids(&diff_ids);
        let mut of_read = std::mem::take(&mut ground.records).into_iter().zip(std::mem::take(&mut ground.losses));
        let (mut records, mut losses) = (Vec::new(), Vec::new());
        for (slot, chain_id) in slots.iter_mut().zip(&chain_ids) {
            if matches!(slot, Slot::Unknown) {
                *slot = self.claim(&key(chain_id), repaired)?;
                // Whether it is there or not, it was read.
                let Some((record, lost)) = of_read.next() else { continue };
                records.push(record);
                losses.push(lost);
            } else if let Slot::Kept(_, record) = slot {
                records.push(std::mem::take(record));
                losses.push(Losses::default());
            } else if let Some((record, lost)) = of_read.next() {
                records.push(record);
                losses.push(lost);
            }
        }
        drop(of_read);

        let stack = replay(&records, options)?;
        fitness.check(&stack, stack.layers())?;
        let trees: Vec<Option<Known>> = slots
            .iter()
            .map(|slot| match slot {
                Slot::Kept(layer, _) => Some(Known::tree_at(layer.tree())),
                _ => None,
            })
            .collect();
        let mut settler = Settler::new(
            &stack,
            &records,
            &mut ground.staging,
            Finish::Overlay(namespace),
            Copies::of_sizes(self.sizes(image, &slots, &ground.layers, &records), &options.limits),
            options,
        )
        .knowing(&trees);
        let parent = rustix::io::fcntl_dupfd_cloexec(ground.work.directory(), 0);
        let parent = Arc::new(parent.map_err(io("cannot open the work directory"))?);
        let mut made: Vec<Made> = Vec::new();
        for (index, difference) in stack.layers().iter().enumerate() {
            if !matches!(slots[index], Slot::Mine { .. }) {
                continue;
            }
            let name = format!("layer-{index}");
            let directory = ground.work.make(&name).map_err(io("cannot make a layer"))?;
            let has_tree = !difference.entries().is_empty();
            if has_tree {
                rustix::fs::renameat(ground.work.directory(), stage_name(index), &directory, TREE)
                    .map_err(io("cannot move a layer"))?;
                settler.stages[index].moved(Home::new(&parent, format!("{name}/{TREE}")));
                if let Some(mode) = settler.settle(index, difference).map_err(settle_error)? {
                    let root = settler.stages[index].root();
                    let set = root.and_then(|root| rustix::fs::fchmod(root, mode));
                    set.map_err(io("cannot set a layer's mode"))?;
                }
            }
            let mut lost = std::mem::take(&mut losses[index]);
            lost.merge(std::mem::take(&mut settler.losses));
            made.push(Made { index, name, has_tree, losses: lost.into_list() });
        }
        drop(settler);
        self.refuse_losses(&slots, &made)?;

        // Their names among the spilled count in what is known of files with several names.
        rustix::io::fcntl_dupfd_cloexec(ground.staging.spill.directory(), 0)
            .and_then(remove_contents)
            .map_err(io("cannot clean up"))?;
        let path = ground.work.path();
        let numbers: Vec<usize> = (0..made.len()).collect();
        let described =
            parallel::each(&numbers, parallel::jobs(options.jobs, 0).get(), &AtomicBool::new(false), &|number| {
                let Made { index, name, has_tree, losses } = &made[number];
                let ids = (diff_ids[*index].clone(), chain_ids[*index].clone());
                let record = record_name();
                let files = [
                    (LOSSES, serde_json::to_vec(losses)?),
                    (record.as_str(), postcard::to_allocvec(&records[*index]).map_err(std::io::Error::other)?),
                ];
                Description::make(&path.join(name), ids, *has_tree, &files)
            });
        for result in described {
            result.unwrap_or(Ok(())).map_err(io("cannot describe a layer"))?;
        }
        let named = diff_ids.iter().zip(&chain_ids).zip(stack.layers()).map(|((diff_id, chain_id), difference)| {
            let directory = (!difference.entries().is_empty()).then(|| lower_directory(&key(chain_id)));
            LayerDirectory { diff_id: diff_id.clone(), chain_id: chain_id.clone(), directory }
        });
        describe(image, &ground, namespace, named.collect(), &stack.shown_root())?;
        drop(stack);

        // Bare layers have no configuration; together they are what the topmost stands for.
        let id = image.config.as_ref().map(|config| config.digest.clone()).or_else(|| chain_ids.last().cloned());
        let place = self.image(&id.unwrap_or_else(|| Digest::sha256_of(b"")), namespace);
        let held = self.publish(&ground.work, &made, &|index| key(&chain_ids[index]), &place)?;
        let found = self.find(&place);
        // Only now is all of it held by the image.
        drop((held, slots));
        match found {
            Found::Whole(kept) => Ok(kept),
            Found::Nothing | Found::Damaged(_) => {
                let error = std::io::Error::other("another process removed or changed it at once");
                Err(DestinationError::Publish { path: place, error }.into())
            }
        }
    }

    /// Bytes and entries of an image, by which copies are limited. Of layers that were not read only the stored bytes are
    /// known for sure: a record has the sizes of holes, too.
    fn sizes(&self, image: &Image, slots: &[Slot], read: &[LayerReport], records: &[Record]) -> (u64, u64) {
        let kept = image.layers.iter().zip(slots).filter(|(_, slot)| matches!(slot, Slot::Kept(..)));
        let bytes = kept.map(|(layer, _)| layer.blob.len()).chain(read.iter().map(|layer| layer.expanded));
        (bytes.sum(), records.iter().map(|record| record.changes.len() as u64).sum())
    }

    /// Refuses what was lost in any layer, if nothing may be.
    fn refuse_losses(&self, slots: &[Slot], made: &[Made]) -> Result<(), Error> {
        if !self.options.strict {
            return Ok(());
        }
        let kept = slots.iter().filter_map(|slot| match slot {
            Slot::Kept(layer, _) => Some(layer.file(LOSSES).and_then(|bytes| losses(&bytes)).unwrap_or_default()),
            _ => None,
        });
        let all = merged(kept.chain(made.iter().map(|layer| layer.losses.clone())));
        all.first().map_or(Ok(()), |first| Err(first.refused()))
    }

    /// Writes all that was made to disk and puts it in its places. As long as the locks are held, nobody removes it.
    fn publish(
        &self,
        work: &Work,
        made: &[Made],
        key: &dyn Fn(usize) -> String,
        place: &Path,
    ) -> Result<Vec<Option<Lock>>, Error> {
        let durability = self.options.durability();
        let unsynced = |error: Errno| DestinationError::Sync { path: place.to_owned(), error: error.into() };
        let mut held = Vec::new();
        if !made.is_empty() {
            durability.sync_tree(work.directory()).map_err(unsynced)?;
        }
        let publishing =
            publishing().map_err(|error| DestinationError::Publish { path: place.to_owned(), error: error.into() })?;
        for layer in made {
            // Locked before it can be found: nobody removes it before the caller has used it.
            held.push(Lock::shared(&work.path().join(&layer.name)));
            let target = self.layers.join(key(layer.index));
            match rustix::fs::renameat(work.directory(), &layer.name, rustix::fs::CWD, &target) {
                // Where there are no locks, another process may have been quicker.
                Err(Errno::EXIST | Errno::NOTEMPTY) if matches!(kept(&target), Ok(Some(_))) => {}
                Err(error) => return Err(DestinationError::Publish { path: target, error: error.into() }.into()),
                Ok(()) => {}
            }
        }
        let image = work.path().join(IMAGE);
        held.push(Lock::shared(&image));
        let synced = || {
            for name in [FILE_NAME, "."] {
                durability.sync(std::fs::File::open(image.join(name))?)?;
            }
            Ok(())
        };
        synced().map_err(|error: std::io::Error| DestinationError::Sync { path: place.to_owned(), error })?;
        let rename = || rustix::fs::renameat(work.directory(), IMAGE, rustix::fs::CWD, place);
        let failed = |error: Errno| DestinationError::Publish { path: place.to_owned(), error: error.into() };
        match rename() {
            Ok(()) => {}
            // Another process was quicker; or it is damaged.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                if !matches!(self.find(place), Found::Whole(_)) {
                    clear(place, "it does not describe the image's layers".to_owned())?;
                    rename().map_err(failed)?;
                }
            }
            Err(error) => return Err(failed(error).into()),
        }
        drop(publishing);
        for directory in [&self.layers, &self.images] {
            open_path(directory).and_then(|directory| durability.sync(directory)).map_err(unsynced)?;
        }
        Ok(held)
    }
}

/// The image's description in the work directory.
const IMAGE: &str = "image";

/// A layer that was unpacked, in the work directory.
struct Made {
    index: usize,
    name: String,
    has_tree: bool,
    losses: Vec<Loss>,
}

impl Slot {
    /// What is known of the layer without reading it.
    fn diff_id(&self) -> Option<Digest> {
        match self {
            Self::Kept(layer, _) => Some(layer.description().diff_id.clone()),
            Self::Mine { .. } | Self::Unknown => None,
        }
    }
}

/// A layer that is there, with its record; what is wrong with it.
fn kept(path: &Path) -> Result<Option<Slot>, String> {
    match KeptLayer::find(Of::Own, path) {
        Found::Nothing => Ok(None),
        Found::Damaged(problem) => Err(problem),
        Found::Whole(layer) => {
            losses(&layer.file(LOSSES)?)?;
            let bytes = layer.file(&record_name())?;
            let record = postcard::from_bytes(&bytes).map_err(|error| format!("{}: {error}", record_name()))?;
            Ok(Some(Slot::Kept(layer, record)))
        }
    }
}

/// A layer's record, in a file beside its tree: what the stack above it is replayed on.
fn record_name() -> String {
    format!("record-{RECORD_VERSION}")
}

fn losses(bytes: &[u8]) -> Result<Vec<Loss>, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{LOSSES}: {error}"))
}

/// Removes what is damaged, and gives what was wrong with it.
fn clear(path: &Path, problem: String) -> Result<String, Error> {
    let failed = |reason: Cause| {
        let what = format!("what is there is damaged ({problem}) and cannot be removed");
        let error = std::io::Error::other(Context::new(what, reason));
        Error::from(DestinationError::Publish { path: path.to_owned(), error })
    };
    match crate::cache::remove(path) {
        Ok(true) => Ok(problem),
        Ok(false) => Err(failed("it is mounted or in use; unmount it first".into())),
        Err(error) => Err(failed(error.error.into())),
    }
}

/// Makes the image's description in the work directory.
fn describe(
    image: &Image,
    ground: &Ground,
    namespace: XattrNamespace,
    layers: Vec<LayerDirectory>,
    root: &Attributes,
) -> Result<(), Error> {
    let directory = ground.work.make(IMAGE).map_err(io("cannot make the image's directory"))?;
    let mut lowerdir: Vec<String> = layers.iter().rev().filter_map(|layer| layer.directory.clone()).collect();
    // Overlayfs mounts no single lowerdir (rule O4).
    for name in ["empty", "empty-2"] {
        if lowerdir.len() < 2 {
            let empty = make_directory(&directory, name, Mode::RWXU).map_err(io("cannot make a layer"))?;
            ground.staging.capabilities.set_root(empty.as_fd(), root).map_err(io("cannot set a layer's attributes"))?;
            lowerdir.push(name.to_owned());
        }
    }
    let layout = Layout {
        format: Layout::SHARED,
        form: Layout::FORM.to_owned(),
        image_digest: image.manifest_digest().cloned(),
        config_digest: image.config.as_ref().map(|config| config.digest.clone()),
        xattr_namespace: namespace,
        layers,
        lowerdir,
        // Whether a layer was changed is known by its own description.
        modified: BTreeMap::new(),
    };
    write_file(directory.as_fd(), FILE_NAME, &layout.to_json())
}

fn key(id: &Digest, namespace: XattrNamespace, options: &Options) -> String {
    let mut key = file_name(id);
    if namespace == XattrNamespace::User {
        key.push_str("-user");
    }
    if options.ignore_root_entry {
        key.push_str("-plain-root");
    }
    if options.selinux {
        key.push_str("-selinux");
    }
    key.push_str(&owners(&options.owners));
    key
}

/// Whose the files are on disk, which is part of what is unpacked.
fn owners(owners: &Owners) -> String {
    let shifted = match owners {
        Owners::AsTheyAre => String::new(),
        Owners::Shifted(maps) => format!("{} {}", maps.uids, maps.gids),
        Owners::Recorded => return "-recorded".to_owned(),
    };
    // The namespace that we are in shifts, too.
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let around =
        if in_user_namespace() { read("/proc/self/uid_map") + &read("/proc/self/gid_map") } else { String::new() };
    if shifted.is_empty() && around.is_empty() {
        return String::new();
    }
    let numbers: Vec<&str> = around.split_ascii_whitespace().collect();
    let digest = Digest::sha256_of(format!("{shifted}\n{}", numbers.join(" ")).as_bytes());
    format!("-ids-{}", &digest.hex()[..12])
}
