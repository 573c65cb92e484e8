//! A file that is kept in a directory of its own, with what it was when it was made in `seal.json` beside it (rule S8).

use std::fs::File;
use std::path::Path;

use super::{Of, remove, renew};
use crate::fs::is_writable_by_others;
use crate::lowerdirs::{Check, Checked, FileSeal};

/// By what the file is recognised.
pub(crate) const SEAL: &str = "seal.json";

/// What the file of this name in a directory is, if it is as it was made.
pub(crate) fn recognised(of: Of, place: &Path, name: &str, check: &Check) -> Option<FileSeal> {
    let seal = FileSeal::read(&place.join(SEAL))?;
    let file = File::open(place.join(name)).ok()?;
    let is_ours = file.metadata().is_ok_and(|metadata| metadata.is_file() && !is_writable_by_others(&metadata));
    if !is_ours {
        return None;
    }
    match seal.check(&file, check).ok()? {
        Checked::Same => Some(seal),
        Checked::Renewed(stamp) => {
            let seal = FileSeal { stamp, ..seal };
            if of == Of::Own {
                recognise(place, &seal);
            }
            Some(seal)
        }
        Checked::Changed => None,
    }
}

/// Notes by what the file is recognised from now on. Where that cannot be written it is read each time.
pub(crate) fn recognise(place: &Path, seal: &FileSeal) {
    let _ = renew(place, SEAL, &seal.to_json());
}

/// Renames a directory to a place where there may be one that is of no use.
pub(crate) fn replace_useless(made: &Path, place: &Path, is_useless: impl Fn(&Path) -> bool) -> std::io::Result<()> {
    match std::fs::rename(made, place) {
        Err(_) if place.exists() && is_useless(place) => {
            if !remove(place).map_err(std::io::Error::other)? {
                return Err(std::io::Error::other("what is there was changed and is in use: unmount it first"));
            }
            std::fs::rename(made, place)
        }
        other => other,
    }
}
