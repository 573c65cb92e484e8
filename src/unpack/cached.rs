//! Unpacked overlay layers in the cache: an image that is mounted again need not be unpacked again.
//!
//! A form is stored under the image's configuration digest and all options that change what is unpacked, so that a
//! stored one can be used as it is. It appears by one rename; two processes that make the same one at once both end up
//! with it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cache::{Lock, UNFINISHED};
use crate::core::digest::Digest;
use crate::core::filter::Filter;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::DestinationError;
use crate::image::Image;
use crate::lowerdirs::FILE_NAME;
use crate::unpack::{Error, Options, Owners, Progress, layers};
use crate::userns::in_user_namespace;

/// Unpacked overlay layers in the cache, which are not removed from there as long as this is held, or as long as they
/// are mounted.
#[derive(Debug)]
pub struct KeptForm {
    path: PathBuf,
    _lock: Lock,
}

impl KeptForm {
    /// The directory of the form.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The form, if it is there and nobody is about to remove it.
    fn find(path: PathBuf) -> Option<Self> {
        let lock = Lock::shared(&path)?;
        lock.touch();
        path.join(FILE_NAME).is_file().then_some(Self { path, _lock: lock })
    }
}

/// The overlay layers of an image in the cache directory `cache`; they are unpacked there if they are missing. A filter
/// of `options` is passed over: what is kept under an image's digest is the image as it is.
///
/// # Errors
/// As for [`layers`].
pub fn overlay(image: &Image, cache: &Path, options: &Options, progress: &dyn Progress) -> Result<KeptForm, Error> {
    let directory = cache.join("overlay");
    let io = |error| Error::Io { action: format!("cannot make the cache directory {directory:?}"), error };
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io)?;
    if let Some(config) = &image.config {
        for namespace in [XattrNamespace::Trusted, XattrNamespace::User] {
            let known = directory.join(key(&config.digest, namespace, options));
            let wanted = options.xattr_namespace.is_none_or(|wanted| wanted == namespace);
            // An ordinary user's own form is in the user namespace, and root's is of no use to others.
            if wanted && let Some(kept) = KeptForm::find(known) {
                return Ok(kept);
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
    // Locked before it can be found: nobody removes it before the caller has used it.
    let lock = Lock::shared(&made);
    match (std::fs::rename(&made, &place), lock) {
        (Ok(()), Some(lock)) => {
            // The tree is on disk already; its name is, too, from here on.
            let synced = std::fs::File::open(&directory)
                .and_then(|directory| options.durability().sync(&directory).map_err(Into::into));
            synced.map_err(|error| DestinationError::Sync { path: place.clone(), error })?;
            Ok(KeptForm { path: place, _lock: lock })
        }
        // Another process was quicker.
        (Err(error), _) => {
            crate::remove_tree(&made);
            KeptForm::find(place.clone()).ok_or_else(|| DestinationError::Publish { path: place, error }.into())
        }
        (Ok(()), None) => {
            let error = std::io::Error::other("it cannot be locked");
            KeptForm::find(place.clone()).ok_or_else(|| DestinationError::Publish { path: place, error }.into())
        }
    }
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
