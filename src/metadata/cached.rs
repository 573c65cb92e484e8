//! EROFS images in the cache: `erofs/sha256-<hex>/`, by the layers and the options that change what is in them.
//!
//! They appear by one rename (rule S2), and are believed as long as they, and what contents lie in, are as they were made (rule S8).

use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::images::{self, Stacking};
use super::sources::Sources;
use super::{How, MetadataError, Verify};
use crate::cache::{Lock, UNFINISHED};
use crate::contents::in_place::{self, PlainLayer, plain_layers};
use crate::contents::{KeptLayer, contents, replace_useless};
use crate::core::digest::Digest;
use crate::fs::DestinationError;
use crate::image::Image;
use crate::lowerdirs::{ErofsLayout, FILE_NAME, Stamp};
use crate::unpack::{Error, Loss, Options, Owners, Progress, io};

/// The group of EROFS images in a cache.
const GROUP: &str = "erofs";
/// What cannot be pointed at in an archive that is used in place.
pub(super) const BESIDE: &str = "beside";
/// What the images do not hold.
const LOSSES: &str = "losses.json";
/// Increase it whenever other images are made of the same layers and options.
const VERSION: u32 = 1;

/// EROFS images in the cache, which are not removed from there as long as this is held, nor is what contents lie in.
#[derive(Debug)]
pub struct KeptImages {
    path: PathBuf,
    not_kept: Vec<Loss>,
    _locks: (Lock, Vec<KeptLayer>),
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
        of_archives(image, &plain_layers(image)?, cache, how, options, progress)
    } else {
        of_content_files(image, cache, how.stacking, options, progress)
    }
}

fn of_content_files(
    image: &Image,
    cache: &Path,
    stacking: Stacking,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptImages, MetadataError> {
    let lines = |diff_ids: &[Digest]| diff_ids.iter().map(|diff_id| format!("layer {diff_id}\n")).collect::<String>();
    let stated: Option<Vec<Digest>> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    if let Some(diff_ids) = &stated
        && let Some(found) = find(cache, &key(&lines(diff_ids), stacking, options), options)?
    {
        return Ok(found);
    }
    let sources = Sources::of_content_files(contents(image, cache, options, progress)?)?;
    // Bare layers have no configuration: what they are is only known now.
    let key = key(&lines(&sources.diff_ids), stacking, options);
    if stated.is_none()
        && let Some(found) = find(cache, &key, options)?
    {
        return Ok(found);
    }
    let draft = Draft::make(cache)?;
    let (losses, _) = images::write(&draft.made(), image, &sources, stacking, true, &text, options)?;
    draft.publish(cache, &key, losses, sources.kept, options)
}

fn of_archives(
    image: &Image,
    layers: &[PlainLayer],
    cache: &Path,
    how: &How,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptImages, MetadataError> {
    let How { stacking, verify, .. } = *how;
    let before = archives(layers)?;
    let key = key(&before, stacking, options);
    let known = find(cache, &key, options)?;
    let is_known = |found: &KeptImages| match verify {
        Verify::Nothing => true,
        Verify::Cached => read(&found.path).is_some_and(|layout| layout.verified),
        Verify::Full => false,
    };
    if let Some(found) = known.filter(is_known) {
        return Ok(found);
    }
    let draft = Draft::make(cache)?;
    let path = draft.made().join(BESIDE);
    let beside = File::options().read(true).write(true).create_new(true).open(&path);
    let beside = beside.map_err(io(format!("cannot write {path:?}")))?;
    let writing = beside.try_clone().map_err(io(format!("cannot write {path:?}")))?;
    let verified = verify != Verify::Nothing;
    let (located, _) = in_place::locate(image, layers, verified, writing, options, progress)?;
    options.durability().sync(&beside).map_err(io(format!("cannot write {path:?}")))?;
    if archives(layers)? != before {
        let problem = std::io::Error::other("it was changed meanwhile");
        return Err(io("cannot use the archive in place")(problem).into());
    }
    // What was known before is replaced by the same, and those that are mounted keep what they have.
    if let Some(found) = find(cache, &key, options)?.filter(|found| read(&found.path).is_some_and(|it| it.verified)) {
        return Ok(found);
    }
    let place = place(cache, &key);
    let sources = Sources::in_place(layers, located, (&place.join(BESIDE), &beside))?;
    let (losses, _) = images::write(&draft.made(), image, &sources, stacking, verified, &text, options)?;
    draft.publish(cache, &key, losses, Vec::new(), options)
}

/// What tells the archives from all others, and from themselves if they change.
fn archives(layers: &[PlainLayer]) -> Result<String, Error> {
    let mut lines = String::new();
    for layer in layers {
        let stamp = Stamp::of_archive(&layer.file).map_err(io("cannot look at an archive"))?;
        let _ = writeln!(lines, "archive {:?} {} {} {stamp:?}", layer.path, layer.start, layer.length);
    }
    Ok(lines)
}

fn key(layers: &str, stacking: Stacking, options: &Options) -> String {
    let Options { ignore_root_entry, selinux, .. } = options;
    let text = format!("{VERSION} {stacking:?} {ignore_root_entry} {selinux}\n{layers}");
    format!("sha256-{}", Digest::sha256_of(text.as_bytes()).hex())
}

fn place(cache: &Path, key: &str) -> PathBuf {
    group(cache).join(key)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The images in a place, if they are as they were made, and so is what contents lie in.
fn find(cache: &Path, key: &str, options: &Options) -> Result<Option<KeptImages>, MetadataError> {
    let place = place(cache, key);
    let Some(lock) = Lock::shared(&place) else { return Ok(None) };
    let Some(layout) = read(&place) else { return Ok(None) };
    let kept: Vec<KeptLayer> = layout.diff_ids.iter().filter_map(|diff_id| KeptLayer::find(cache, diff_id)).collect();
    lock.touch();
    let not_kept: Option<Vec<Loss>> =
        std::fs::read(place.join(LOSSES)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let not_kept = not_kept.unwrap_or_default();
    match not_kept.first() {
        Some(first) if options.strict => Err(first.refused().into()),
        _ => Ok(Some(KeptImages { path: place, not_kept, _locks: (lock, kept) })),
    }
}

/// The description in a place, if everything is as it says.
fn read(place: &Path) -> Option<ErofsLayout> {
    let layout: ErofsLayout = serde_json::from_slice(&std::fs::read(place.join(FILE_NAME)).ok()?).ok()?;
    let is_still = |path: PathBuf, stamp: &Stamp| File::open(path).is_ok_and(|file| stamp.is_of(&file));
    let is_whole = layout.format == ErofsLayout::FORMAT
        && layout.form == ErofsLayout::FORM
        && layout.images.iter().all(|image| is_still(place.join(&image.file), &image.stamp))
        && layout.devices.iter().all(|device| is_still(place.join(&device.path), &device.stamp));
    is_whole.then_some(layout)
}

/// A directory for images to be, which goes unless it is published.
struct Draft {
    directory: tempfile::TempDir,
    /// A concurrent `prune` leaves it alone.
    _growing: Option<Lock>,
}

impl Draft {
    fn make(cache: &Path) -> Result<Self, Error> {
        let group = group(cache);
        let failed = || io(format!("cannot write to the cache directory {group:?}"));
        let directory = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&group).map_err(failed())?;
        let growing = Lock::shared(directory.path());
        let draft = Self { directory, _growing: growing };
        DirBuilder::new().mode(0o700).create(draft.made()).map_err(failed())?;
        Ok(draft)
    }

    fn made(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    /// Puts the images where everybody finds them, on disk before that (rule S6).
    fn publish(
        self,
        cache: &Path,
        key: &str,
        not_kept: Vec<Loss>,
        kept: Vec<KeptLayer>,
        options: &Options,
    ) -> Result<KeptImages, MetadataError> {
        let (place, made, durability) = (place(cache, key), self.made(), options.durability());
        let losses = serde_json::to_vec(&not_kept).map_err(std::io::Error::from);
        let losses = losses.map_err(io("cannot write what was lost"))?;
        images::write_file(&made.join(LOSSES), &losses, durability)?;
        let synced = |path: &Path| Ok::<_, std::io::Error>(durability.sync(File::open(path)?)?);
        let unsynced = |error| DestinationError::Sync { path: place.clone(), error };
        synced(&made).map_err(unsynced)?;
        // Locked before it can be found: nobody removes it before the caller has used it.
        let lock = Lock::shared(&made).ok_or_else(|| unsynced(std::io::Error::other("it cannot be locked")))?;
        let is_useless = |place: &Path| read(place).is_none_or(|layout| !layout.verified);
        match replace_useless(&made, &place, is_useless) {
            Ok(()) => {
                synced(&group(cache)).map_err(unsynced)?;
                Ok(KeptImages { path: place, not_kept, _locks: (lock, kept) })
            }
            // Another process was quicker.
            Err(error) => match find(cache, key, options)? {
                Some(found) => Ok(found),
                None => Err(DestinationError::Publish { path: place, error }.into()),
            },
        }
    }
}
