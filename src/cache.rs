//! Overlay forms that are kept: an image that is mounted again need not be laid down again.
//!
//! A form is stored under the image's configuration digest and all options that change what is laid down, so that a stored one
//! can be used as it is. It appears by one rename; two processes that make the same one at once both end up with it.

use std::path::{Path, PathBuf};

use crate::blob::Digest;
use crate::error::Error;
use crate::form::{FILE_NAME, layers};
use crate::image::Image;
use crate::options::{Options, Owners, XattrNamespace};
use crate::overlay::in_user_namespace;
use crate::report::Progress;
use crate::stage::DestinationError;

/// `$XDG_CACHE_HOME/layflat`, or `~/.cache/layflat` (XDG Base Directory Specification).
pub fn directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("layflat"))
}

/// The overlay form of an image in the cache directory `cache`; it is made if it is not there.
///
/// # Errors
/// As for [`layers`].
pub fn overlay(image: &Image, cache: &Path, options: &Options, progress: &dyn Progress) -> Result<PathBuf, Error> {
    let directory = cache.join("overlay");
    let io = |error| Error::Io { action: format!("cannot make the cache directory {directory:?}"), error };
    std::fs::DirBuilder::new().recursive(true).create(&directory).map_err(io)?;
    if let Some(config) = &image.config {
        for namespace in [XattrNamespace::Trusted, XattrNamespace::User] {
            let known = directory.join(key(&config.digest, namespace, options));
            let wanted = options.xattr_namespace.is_none_or(|wanted| wanted == namespace);
            // An ordinary user's own form is in the user namespace, and root's is of no use to others.
            if wanted && known.join(FILE_NAME).is_file() {
                return Ok(known);
            }
        }
    }
    let fresh = tempfile::Builder::new().prefix("new-").tempdir_in(&directory).map_err(io)?;
    let made = fresh.path().join("form");
    let report = layers(image, &made, &Options { replace: false, ..options.clone() }, progress)?;
    // Bare layers have no configuration: what they are is only known now.
    let id = match (&report.config_digest, report.layers.last()) {
        (Some(config), _) => config.clone(),
        (None, Some(top)) => top.chain_id.clone(),
        (None, None) => Digest::sha256_of(b""),
    };
    let namespace = report.xattr_namespace.unwrap_or(XattrNamespace::Trusted);
    let place = directory.join(key(&id, namespace, options));
    match std::fs::rename(&made, &place) {
        Ok(()) => Ok(place),
        // Another process was quicker.
        Err(_) if place.join(FILE_NAME).is_file() => {
            crate::remove_tree(&made);
            Ok(place)
        }
        Err(error) => {
            crate::remove_tree(&made);
            Err(DestinationError::Publish { path: place, error }.into())
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

/// Whose the files are on disk, which is part of what is laid down.
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
