//! File system images in the cache: `exports/<key>/rootfs.<format>`, one file for each image and format, for all who use the cache.
//!
//! The key is the ChainID of the image's topmost layer, which stands for the whole tree, and whatever else changes the file. Of several processes that
//! want it one makes it, and the others wait. It appears by one rename (rule S2), on disk (rule S6), and is believed as long as it is what it was (rule
//! S8).

use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{enroot, flat_erofs, flat_squashfs};
use crate::cache::{Draft, EXPORTS, Lock, Of, SEAL, Turn, file_name, recognised, replace_useless, sweep};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::fs::{Destination, DestinationError, Output};
use crate::image::{Image, chain_ids};
use crate::lowerdirs::{Check, FileSeal};
use crate::unpack::{Error, Loss, Options, Owners, Progress, Report, io};

/// What the file does not hold.
const LOSSES: &str = "losses.json";
/// Increase it whenever another file is made of the same layers and options.
const VERSION: u32 = 1;
/// Of a directory that others may look into where those around it allow it.
const OPEN_MODE: u32 = 0o755;

/// The format of a file system in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// EROFS, as [`flat_erofs`] writes it.
    Erofs,
    /// SquashFS, as [`flat_squashfs`] has it made.
    Squashfs,
    /// SquashFS for enroot and pyxis: with `/etc/environment`, `/etc/rc`, `/etc/rc.local` and `/etc/fstab` as the image's configuration says, all of it
    /// root's, and no devices.
    Enroot,
}

impl FileSystem {
    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Enroot => "enroot",
        }
    }

    /// The name of the file in its directory. That of enroot is known to it by its end.
    fn file_name(self) -> &'static str {
        match self {
            Self::Erofs => "rootfs.erofs",
            Self::Squashfs => "rootfs.squashfs",
            Self::Enroot => "rootfs.sqsh",
        }
    }
}

/// A file system image in the cache, which is not removed from there as long as this is held.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    size: u64,
    not_kept: Vec<Loss>,
    report: Option<Report>,
    _lock: Lock,
}

impl KeptFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it does not hold (rule A4).
    pub fn not_kept(&self) -> &[Loss] {
        &self.not_kept
    }

    /// How it was made, if it was made now.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

/// What an image shows as one file in the cache directory `cache`: the file that is there, or one that is made now; if another process is at that, it
/// is waited for. No layer is read for a file that is there. With `every_byte` it is read, and made anew if it was changed. A filter and owners of
/// `options` are passed over: the file is what its name stands for.
///
/// # Errors
/// An image that does not state the DiffIDs of its layers; as [`flat_erofs`] and [`flat_squashfs`]; a cache that cannot be written.
pub fn kept_file(
    image: &Image,
    cache: &Path,
    file_system: FileSystem,
    every_byte: bool,
    options: &Options,
    progress: &dyn Progress,
) -> Result<KeptFile, Error> {
    let (filter, with_files) = match file_system {
        FileSystem::Enroot => (enroot::filter()?, Some(enroot::with_files(image, &options.notes)?)),
        FileSystem::Erofs | FileSystem::Squashfs => (Filter::default(), None),
    };
    let image = with_files.as_ref().unwrap_or(image);
    let options = &Options { filter, owners: Owners::AsTheyAre, replace: false, ..options.clone() };
    let absolute = |cache: &Path| std::path::absolute(cache).map_err(io("cannot find the cache directory"));
    let cache = absolute(cache)?;
    let lower_cache = options.lower_cache.as_deref().map(absolute).transpose()?;
    let stated: Option<Vec<Digest>> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let stated = stated.ok_or_else(|| {
        Error::Product("the image does not state what its layers are, so that nothing can be kept of it".into())
    })?;
    let key = key(&stated, file_system, options);
    let check = Check { every_byte, cancel: options.cancel.clone() };
    let exports = |of, cache: &Path| Exports { group: cache.join(EXPORTS), key: key.clone(), file_system, options, of };
    let lower = lower_cache.as_deref().map(|lower| exports(Of::Lower, lower).find(&check)).transpose()?.flatten();
    let exports = exports(Of::Own, &cache);
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&exports.group);
    made.map_err(io(format!("cannot make the cache directory {:?}", exports.group)))?;
    let found = match lower {
        Some(found) => found,
        None => match exports.find(&check)? {
            Some(found) => found,
            None => exports.make(image, progress)?,
        },
    };
    match found.not_kept.first() {
        Some(first) if options.strict => Err(first.refused()),
        _ => Ok(found),
    }
}

/// The place of one file.
struct Exports<'a> {
    group: PathBuf,
    key: String,
    file_system: FileSystem,
    options: &'a Options,
    of: Of,
}

impl Exports<'_> {
    fn place(&self) -> PathBuf {
        self.group.join(&self.key)
    }

    /// The file, if it is there and as it was made.
    fn find(&self, check: &Check) -> Result<Option<KeptFile>, Error> {
        let place = self.place();
        let Some(lock) = Lock::shared_in(self.of, &place) else { return Ok(None) };
        let name = self.file_system.file_name();
        let seal = recognised(self.of, &place, name, check);
        if self.options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let losses = std::fs::read(place.join(LOSSES)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let Some((seal, not_kept)) = seal.zip(losses) else { return Ok(None) };
        lock.touch();
        let size = seal.stamp.size;
        Ok(Some(KeptFile { path: place.join(name), size, not_kept, report: None, _lock: lock }))
    }

    /// Makes the file, unless another process does.
    fn make(&self, image: &Image, progress: &dyn Progress) -> Result<KeptFile, Error> {
        let (group, options) = (&self.group, self.options);
        let unwritten = || io(format!("cannot write to the cache directory {group:?}"));
        sweep(group);
        let what = format_args!("makes {}/{}", self.key, self.file_system.file_name());
        let turn = Turn::take(group, &self.key, &options.waiting(), &what);
        let _turn = turn.ok_or(Error::Cancelled)?;
        // Who was waited for has made it.
        if let Some(found) = self.find(&Check::default())? {
            return Ok(found);
        }
        let place = self.place();
        if place.exists() {
            options.notes.tell(format!("{place:?} is not as it was made: it is made anew"));
        }
        let draft = Draft::make_anew(group, &self.key).map_err(unwritten())?;
        let made = draft.made();
        let (report, losses) = self.write(image, &made, progress)?;
        let unsynced = |error: std::io::Error| DestinationError::Sync { path: place.clone(), error };
        let everywhere = File::open(group).map_err(unsynced)?;
        let durability = options.durability();
        durability.sync_tree(&everywhere).map_err(|error| unsynced(error.into()))?;
        // Locked before it can be found: nobody removes it before it is found here.
        let lock = Lock::shared(&made);
        let published = replace_useless(&made, &place, |place| {
            recognised(Of::Own, place, self.file_system.file_name(), &Check::default()).is_none()
        });
        drop(lock);
        let failed = |error| Error::from(DestinationError::Publish { path: place.clone(), error });
        match (published, self.find(&Check::default())?) {
            // Also if another process was quicker.
            (published, Some(found)) => {
                durability.sync(&everywhere).map_err(|error| unsynced(error.into()))?;
                let report = published.is_ok().then(|| Report { destination: found.path.clone(), ..report });
                Ok(KeptFile { report, not_kept: losses, ..found })
            }
            (Err(error), None) => Err(failed(error)),
            (Ok(()), None) => Err(failed(std::io::Error::other("it was changed or removed at once"))),
        }
    }

    /// Writes the file, and what is known of it, into a directory.
    fn write(&self, image: &Image, made: &Path, progress: &dyn Progress) -> Result<(Report, Vec<Loss>), Error> {
        let options = self.options;
        let path = made.join(self.file_system.file_name());
        let unwritten = || io(format!("cannot write {path:?}"));
        let output = Output::create_seekable(Destination::File(path.clone()), false, options.no_sync)?;
        let report = match self.file_system {
            FileSystem::Erofs => flat_erofs(image, output.file(), &output.scratch(), options, progress)?,
            FileSystem::Squashfs | FileSystem::Enroot => flat_squashfs(image, &output, options, progress)?,
        };
        output.publish()?;
        let file = File::open(&path).map_err(unwritten())?;
        let seal = FileSeal::of(&file, &options.cancel).map_err(|error| match options.cancel.is_cancelled() {
            true => Error::Cancelled,
            false => unwritten()(error),
        })?;
        let losses = report.not_kept.clone();
        let text = serde_json::to_vec(&losses).map_err(|error| unwritten()(error.into()))?;
        for (name, bytes) in [(SEAL, seal.to_json()), (LOSSES, text)] {
            File::create_new(made.join(name)).and_then(|mut file| file.write_all(&bytes)).map_err(unwritten())?;
        }
        // Whether others may use it is for the directories above to say.
        std::fs::set_permissions(made, Permissions::from_mode(OPEN_MODE)).map_err(unwritten())?;
        Ok((report, losses))
    }
}

fn key(diff_ids: &[Digest], file_system: FileSystem, options: &Options) -> String {
    let top = chain_ids(diff_ids).pop().unwrap_or_else(|| Digest::sha256_of(b""));
    let mut key = format!("{}-{}-{VERSION}", file_name(&top), file_system.name());
    if options.ignore_root_entry {
        key.push_str("-plain-root");
    }
    if options.selinux {
        key.push_str("-selinux");
    }
    key
}
