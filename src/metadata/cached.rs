//! EROFS images in the cache: `erofs/sha256-<hex>/`, by the layers and the options that change what is in them.
//!
//! They appear by one rename (rule S2), and are believed as long as they, and what contents lie in, are as they were made (rule S8).

use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::images::{self, Stacking};
use super::sources::Sources;
use super::{How, MetadataError, Verify, shared};
use crate::cache::{Draft, Lock, Of, Turn, renew, replace_useless, sweep};
use crate::contents::in_place::{self, PlainLayer, plain_layers};
use crate::contents::{KeptLayer, contents};
use crate::core::digest::Digest;
use crate::fs::{DestinationError, is_writable_by_others};
use crate::image::Image;
use crate::lowerdirs::{Check, Checked, ErofsLayout, FILE_NAME, FileSeal, Stamp};
use crate::unpack::{Error, Loss, Options, Owners, Progress, io};

/// The group of EROFS images in a cache.
const GROUP: &str = "erofs";
/// What cannot be pointed at in an archive that is used in place.
pub(super) const BESIDE: &str = "beside";
/// What the images do not hold.
const LOSSES: &str = "losses.json";
/// Increase it whenever other images are made of the same layers and options.
pub(super) const VERSION: u32 = 2;

/// EROFS images in the cache, which are not removed from there as long as this is held, nor is what contents lie in.
#[derive(Debug)]
pub struct KeptImages {
    path: PathBuf,
    pub(super) layout: ErofsLayout,
    not_kept: Vec<Loss>,
    _locks: (Vec<Lock>, Vec<KeptLayer>),
}

impl KeptImages {
    /// Their directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What they do not hold (rule A4).
    pub fn not_kept(&self) -> &[Loss] {
        &self.not_kept
    }
}

pub(super) fn group(cache: &Path) -> PathBuf {
    cache.join(GROUP)
}

/// EROFS images of an image, in the cache directory `cache`: those that are there, or made now.
///
/// # Errors
/// A damaged or hostile image; a tree that EROFS cannot hold, and the other reasons of [`MetadataError::is_unavailable`]; a cache that cannot be
/// written.
pub fn cached(
    image: &Image,
    cache: &Path,
    how: &How,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptImages, MetadataError> {
    if options.owners != Owners::AsTheyAre {
        return Err(MetadataError::Owners);
    }
    let cache = &std::path::absolute(cache).map_err(io("cannot find the cache directory"))?;
    let group = group(cache);
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&group);
    made.map_err(io(format!("cannot make the cache directory {group:?}")))?;
    if how.in_place {
        return of_archives(image, &plain_layers(image)?, cache, how, options, progress);
    }
    let check = &Check { every_byte: how.verify() == Verify::Full, cancel: options.cancel.clone() };
    of_content_files(image, cache, how.stacking, check, options, progress)
}

fn of_content_files(
    image: &Image,
    cache: &Path,
    stacking: Stacking,
    check: &Check,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptImages, MetadataError> {
    let lines = |diff_ids: &[Digest]| diff_ids.iter().map(|diff_id| format!("layer {diff_id}\n")).collect::<String>();
    let stated: Option<Vec<Digest>> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    if let Some((diff_ids, lower)) = stated.as_ref().zip(options.lower_cache.as_deref())
        && let Some(found) = find_in(Of::Lower, lower, &key(&lines(diff_ids), stacking, options), check, options)?
    {
        return Ok(found);
    }
    if let Some(diff_ids) = &stated
        && let Some(found) = find(cache, &key(&lines(diff_ids), stacking, options), check, options)?
    {
        return Ok(found);
    }
    let sources = Sources::of_content_files(contents(image, cache, check.every_byte, options, progress)?);
    // Bare layers have no configuration, so that what they are is only known now; and contents that were removed are the same ones again.
    let key = key(&lines(&sources.diff_ids), stacking, options);
    sweep(&group(cache));
    let turn = Turn::take(&group(cache), &key, &options.waiting(), &format_args!("makes EROFS image {key}"));
    let _turn = turn.ok_or(Error::Cancelled)?;
    if let Some(found) = find(cache, &key, check, options)? {
        return Ok(found);
    }
    if stacking == Stacking::Layered {
        return shared::make(image, cache, &key, &sources, check, options);
    }
    let draft = draft(cache)?;
    let (losses, _) = images::write(&draft.made(), image, &sources, stacking, true, &text, options)?;
    the_only(publish(cache, vec![(key, draft, losses)], check, options)?)
}

fn the_only(kept: Vec<KeptImages>) -> Result<KeptImages, MetadataError> {
    let gone = || io("cannot find EROFS images in the cache")(std::io::Error::other("another process removed them"));
    Ok(kept.into_iter().next().ok_or_else(gone)?)
}

fn of_archives(
    image: &Image,
    layers: &[PlainLayer],
    cache: &Path,
    how: &How,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptImages, MetadataError> {
    let (stacking, verify) = (how.stacking, how.verify());
    let check = Check { every_byte: verify == Verify::Full, cancel: options.cancel.clone() };
    let before = archives(layers)?;
    let key = key(&before, stacking, options);
    let is_known = |found: &KeptImages| match verify {
        Verify::Nothing => true,
        Verify::Cached => found.layout.verified,
        Verify::Full => false,
    };
    if verify != Verify::Full
        && let Some(found) = find(cache, &key, &check, options)?.filter(is_known)
    {
        return Ok(found);
    }
    let draft = draft(cache)?;
    let path = draft.made().join(BESIDE);
    let beside = File::options().read(true).write(true).create_new(true).open(&path);
    let beside = beside.map_err(io(format!("cannot write {path:?}")))?;
    let writing = beside.try_clone().map_err(io(format!("cannot write {path:?}")))?;
    let verified = verify != Verify::Nothing;
    let (located, _) = in_place::locate(image, layers, verified, writing, options, progress)?;
    if archives(layers)? != before {
        let problem = std::io::Error::other("it was changed meanwhile");
        return Err(io("cannot use the archive in place")(problem).into());
    }
    // What was known before is replaced by the same, and those that are mounted keep what they have.
    if let Some(found) = find(cache, &key, &check, options)?.filter(|found| found.layout.verified) {
        return Ok(found);
    }
    let place = place(cache, &key);
    let sources = Sources::in_place(layers, located, (&place.join(BESIDE), &beside), &options.cancel)?;
    let (losses, _) = images::write(&draft.made(), image, &sources, stacking, verified, &text, options)?;
    the_only(publish(cache, vec![(key, draft, losses)], &check, options)?)
}

/// What tells the archives from all others, and from themselves if they change.
fn archives(layers: &[PlainLayer]) -> Result<String, Error> {
    let mut lines = String::new();
    for layer in layers {
        let stamp = Stamp::of(&layer.file).map_err(io("cannot look at an archive"))?;
        let _ = writeln!(lines, "archive {:?} {} {} {stamp:?}", layer.path, layer.start, layer.length);
    }
    Ok(lines)
}

pub(super) fn key(layers: &str, stacking: Stacking, options: &Options) -> String {
    let Options { ignore_root_entry, selinux, .. } = options;
    let text = format!("{VERSION} {stacking:?} {ignore_root_entry} {selinux}\n{layers}");
    format!("sha256-{}", Digest::sha256_of(text.as_bytes()).hex())
}

fn place(cache: &Path, key: &str) -> PathBuf {
    group(cache).join(key)
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The images in a place, if they are as they were made, and so is what contents lie in.
pub(super) fn find(
    cache: &Path,
    key: &str,
    check: &Check,
    options: &Options,
) -> Result<Option<KeptImages>, MetadataError> {
    find_in(Of::Own, cache, key, check, options)
}

fn find_in(
    of: Of,
    cache: &Path,
    key: &str,
    check: &Check,
    options: &Options,
) -> Result<Option<KeptImages>, MetadataError> {
    let place = place(cache, key);
    let Some(lock) = Lock::shared_in(of, &place) else { return Ok(None) };
    let Some(mut layout) = describe(&place) else { return Ok(None) };
    // Nothing of it is removed from now on.
    let shared = layout.images.iter().filter_map(|image| ErofsLayout::shared_layer(&image.file));
    let shared = shared.filter_map(|key| Lock::shared_in(of, &group(cache).join(key)).inspect(Lock::touch));
    let locks: Vec<Lock> = shared.chain([lock]).collect();
    let contents: Vec<KeptLayer> =
        layout.diff_ids.iter().filter_map(|diff_id| KeptLayer::find(of, cache, diff_id, check)).collect();
    match renewed(&place, &mut layout, &contents, check) {
        Some(false) => {}
        Some(true) if of == Of::Lower => {}
        // Where that cannot be written everything is read each time.
        Some(true) => drop(renew(&place, FILE_NAME, &layout.to_json())),
        None if options.cancel.is_cancelled() => return Err(Error::Cancelled.into()),
        None => return Ok(None),
    }
    if let Some(lock) = locks.last() {
        lock.touch();
    }
    let not_kept: Option<Vec<Loss>> =
        std::fs::read(place.join(LOSSES)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let not_kept = not_kept.unwrap_or_default();
    match not_kept.first() {
        Some(first) if options.strict => Err(first.refused().into()),
        _ => Ok(Some(KeptImages { path: place, layout, not_kept, _locks: (locks, contents) })),
    }
}

/// The description in a place.
fn describe(place: &Path) -> Option<ErofsLayout> {
    let layout: ErofsLayout = serde_json::from_slice(&std::fs::read(place.join(FILE_NAME)).ok()?).ok()?;
    let is_known = [ErofsLayout::FORMAT, ErofsLayout::SHARED].contains(&layout.format);
    (is_known && layout.form == ErofsLayout::FORM).then_some(layout)
}

/// Whether anything is recognised by another stamp from now on, which the description then has; nothing if something is not as it was made.
fn renewed(place: &Path, layout: &mut ErofsLayout, contents: &[KeptLayer], check: &Check) -> Option<bool> {
    let mut any = false;
    let mut look = |path: &Path, seal: &mut FileSeal| {
        let file = File::open(path).ok()?;
        if is_writable_by_others(&file.metadata().ok()?) && seal.verity.is_some() {
            return None;
        }
        match seal.check(&file, check).ok()? {
            Checked::Same => {}
            Checked::Renewed(stamp) => (seal.stamp, any) = (stamp, true),
            Checked::Changed => return None,
        }
        Some(())
    };
    let mut changed_contents = false;
    for device in &mut layout.devices {
        match contents.iter().find(|kept| kept.path() == Path::new(&device.path)) {
            // That was looked at already.
            Some(kept) if kept.seal().verity == device.seal.verity => {
                changed_contents |= device.seal != *kept.seal();
                device.seal = kept.seal().clone();
            }
            Some(_) => return None,
            None => look(&place.join(&device.path), &mut device.seal)?,
        }
    }
    for image in &mut layout.images {
        look(&place.join(&image.file), &mut image.seal)?;
    }
    Some(any || changed_contents)
}

/// A directory for images to be.
pub(super) fn draft(cache: &Path) -> Result<Draft, Error> {
    let group = group(cache);
    Draft::make(&group).map_err(io(format!("cannot write to the cache directory {group:?}")))
}

/// Puts drafts, each with its name and what its images do not hold, where everybody finds them, all of them on disk before that (rule S6).
pub(super) fn publish(
    cache: &Path,
    drafts: Vec<(String, Draft, Vec<Loss>)>,
    check: &Check,
    options: &Options,
) -> Result<Vec<KeptImages>, MetadataError> {
    let (group, durability) = (group(cache), options.durability());
    let unsynced = |error: std::io::Error| DestinationError::Sync { path: group.clone(), error };
    for (_, draft, losses) in &drafts {
        let losses = serde_json::to_vec(losses).map_err(std::io::Error::from);
        images::write_file(&draft.made().join(LOSSES), &losses.map_err(io("cannot write what was lost"))?)?;
    }
    let all = File::open(&group).map_err(unsynced)?;
    durability.sync_tree(&all).map_err(|error| unsynced(error.into()))?;
    let mut kept = Vec::new();
    for (key, draft, _) in &drafts {
        let (place, made) = (place(cache, key), draft.made());
        // Locked before it can be found: nobody removes it before it is found here.
        let _lock = Lock::shared(&made);
        let is_useless = |place: &Path| match describe(place) {
            Some(mut layout) => !layout.verified || renewed(place, &mut layout, &[], check).is_none(),
            None => true,
        };
        let published = replace_useless(&made, &place, is_useless);
        // Also if another process was quicker.
        match (published, find(cache, key, &Check::default(), options)?) {
            (_, Some(found)) => kept.push(found),
            (Err(error), None) => return Err(DestinationError::Publish { path: place, error }.into()),
            (Ok(()), None) => {
                let error = std::io::Error::other("it was changed or removed at once");
                return Err(DestinationError::Publish { path: place, error }.into());
            }
        }
    }
    durability.sync(&all).map_err(|error| unsynced(error.into()))?;
    Ok(kept)
}
