//! Unpacked layers in the cache: an image that is mounted again need not be unpacked again.
//!
//! They are stored under the image's configuration digest and all options that change what is unpacked, so that they can be used as they
//! are. They appear by one rename; two processes that unpack the same image at once both end up with it. What is damaged is removed and
//! unpacked anew, and what the file system could not hold is remembered beside the layers (rules S8 and A4).

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cache::{Lock, UNFINISHED};
use crate::core::chain::{Cause, Context};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::DestinationError;
use crate::image::Image;
use crate::lowerdirs::damage;
use crate::unpack::{Error, Loss, Options, Owners, Progress, layers};
use crate::userns::in_user_namespace;

/// What the file system could not hold, beside the layers.
const LOSSES: &str = "losses.json";

/// Unpacked layers in the cache, which are not removed from there as long as this is held, or as long as they are mounted.
#[derive(Debug)]
pub struct CachedLayers {
    path: PathBuf,
    not_kept: Vec<Loss>,
    repaired: Option<String>,
    _lock: Lock,
}

impl CachedLayers {
    /// Their directory.
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

    fn new(path: PathBuf, lock: Lock) -> Self {
        let losses = std::fs::read(path.join(LOSSES)).ok();
        let not_kept = losses.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, not_kept, repaired: None, _lock: lock }
    }
}

/// What is in a place of the cache.
enum Found {
    Nothing,
    Whole(CachedLayers),
    /// What is wrong with it.
    Damaged(String),
}

fn find(path: &Path) -> Found {
    let Some(lock) = Lock::shared(path) else { return Found::Nothing };
    match damage(path) {
        Some(problem) => Found::Damaged(problem),
        None => {
            lock.touch();
            Found::Whole(CachedLayers::new(path.to_owned(), lock))
        }
    }
}

/// Removes damaged layers, and gives what was wrong with them.
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

/// The unpacked layers of an image in the cache directory `cache`; the image is unpacked if they are not there, or damaged.
/// A filter of `options` is passed over: what is kept under an image's digest is the image as it is.
///
/// # Errors
/// As for [`layers`].
pub fn overlay(image: &Image, cache: &Path, options: &Options, progress: &dyn Progress) -> Result<CachedLayers, Error> {
    let directory = cache.join("overlay");
    let io = |error| Error::Io { action: format!("cannot make the cache directory {directory:?}"), error };
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io)?;
    let mut repaired = None;
    if let Some(config) = &image.config {
        for namespace in [XattrNamespace::Trusted, XattrNamespace::User] {
            let known = directory.join(key(&config.digest, namespace, options));
            let wanted = options.xattr_namespace.is_none_or(|wanted| wanted == namespace);
            // An ordinary user's own form is in the user namespace, and root's is of no use to others.
            match find(&known) {
                Found::Whole(kept) if wanted => return checked(kept, options),
                Found::Damaged(problem) if wanted => repaired = Some(clear(&known, problem)?),
                _ => {}
            }
        }
    }
    let fresh = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&directory).map_err(io)?;
    // The lock keeps a concurrent `prune` from removing it while it is being written.
    let _growing = Lock::shared(fresh.path());
    let made = fresh.path().join("form");
    let report =
        layers(image, &made, &Options { replace: false, filter: Filter::default(), ..options.clone() }, progress)?;
    // Bare layers have no configuration: what they are is only known now.
    let id = match (&report.config_digest, report.layers.last()) {
        (Some(config), _) => config.clone(),
        (None, Some(top)) => top.chain_id.clone(),
        (None, None) => Digest::sha256_of(b""),
    };
    let namespace = report.xattr_namespace.unwrap_or(XattrNamespace::Trusted);
    let place = directory.join(key(&id, namespace, options));
    remember(&made, &report.not_kept, options)?;
    // Bare layers are only known now; theirs may be damaged, too.
    if let Found::Damaged(problem) = find(&place) {
        repaired = Some(clear(&place, problem)?);
    }
    // Locked before it can be found: nobody removes it before the caller has used it.
    let lock = Lock::shared(&made);
    match (std::fs::rename(&made, &place), lock) {
        (Ok(()), Some(lock)) => {
            // The tree is on disk already; its name is, too, from here on.
            let synced = std::fs::File::open(&directory)
                .and_then(|directory| options.durability().sync(&directory).map_err(Into::into));
            synced.map_err(|error| DestinationError::Sync { path: place.clone(), error })?;
            Ok(CachedLayers { repaired, ..CachedLayers::new(place, lock) })
        }
        // Another process was quicker.
        (Err(error), _) => {
            crate::remove_tree(&made);
            there(place, error)
        }
        (Ok(()), None) => there(place, std::io::Error::other("it cannot be locked")),
    }
}

/// What another process has put there.
fn there(place: PathBuf, error: std::io::Error) -> Result<CachedLayers, Error> {
    match find(&place) {
        Found::Whole(kept) => Ok(kept),
        Found::Nothing | Found::Damaged(_) => Err(DestinationError::Publish { path: place, error }.into()),
    }
}

/// Layers that have lost something are not for who wants all of it.
fn checked(kept: CachedLayers, options: &Options) -> Result<CachedLayers, Error> {
    match kept.not_kept.first() {
        Some(first) if options.strict => Err(first.refused()),
        _ => Ok(kept),
    }
}

/// Writes what was lost beside the layers.
fn remember(form: &Path, losses: &[Loss], options: &Options) -> Result<(), Error> {
    let write = || {
        let mut file = std::fs::File::create_new(form.join(LOSSES))?;
        file.write_all(&serde_json::to_vec(losses)?)?;
        Ok(options.durability().sync(&file)?)
    };
    write().map_err(|error| Error::Io { action: format!("cannot write {LOSSES}"), error })
}

fn key(id: &Digest, namespace: XattrNamespace, options: &Options) -> String {
    let mut key = format!("{}-{}", id.algorithm().name(), id.hex());
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
