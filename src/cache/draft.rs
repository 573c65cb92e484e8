//! What is to be kept, as long as it is not whole.

use std::fs::DirBuilder;
use std::io::{Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::lock::are_local_on_directories;
use super::prune::remove;
use super::{Lock, UNFINISHED};
use crate::fs::Durability;

/// A directory that is to be kept. It goes unless it is moved away from here.
#[derive(Debug)]
pub(crate) struct Draft {
    around: TempDir,
    /// A concurrent `prune` leaves it alone.
    _growing: Option<Lock>,
}

impl Draft {
    /// Begins with an empty directory, beside those that it is to be among.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make(group: &Path) -> Result<Self> {
        Self::begin(group, UNFINISHED)
    }

    /// The same for whoever has the turn to make `name`: what others have left of it who had the turn before, and were killed, goes first.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make_anew(group: &Path, name: &str) -> Result<Self> {
        let prefix = format!("{UNFINISHED}draft-{name}.");
        // Where locks do not tell, one of them may be alive on another machine.
        if !are_local_on_directories(group) {
            let left = std::fs::read_dir(group).into_iter().flatten().flatten();
            for entry in left.filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes())) {
                let _ = remove(&entry.path());
            }
        }
        Self::begin(group, &prefix)
    }

    fn begin(group: &Path, prefix: &str) -> Result<Self> {
        let around = tempfile::Builder::new().prefix(prefix).tempdir_in(group)?;
        let growing = Lock::shared(around.path());
        let draft = Self { around, _growing: growing };
        DirBuilder::new().mode(0o700).create(draft.made())?;
        Ok(draft)
    }

    /// Where it is.
    pub(crate) fn made(&self) -> PathBuf {
        self.around.path().join("made")
    }
}

/// Writes a file anew in a directory that is kept; it is on disk before it takes the place of the old one.
///
/// # Errors
/// It cannot be written: another user's cache may be readable and no more.
pub(crate) fn renew(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    file.write_all(bytes)?;
    Durability::Synced.sync(file.as_file())?;
    file.persist(directory.join(name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_has_left_goes_when_another_one_has_its_turn() {
        let place = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(place.path()).unwrap().count();
        for name in ["new-draft-a.killed", "new-draft-b.killed", "new-other"] {
            std::fs::create_dir_all(place.path().join(name).join("made")).unwrap();
        }
        let alive = Draft::make_anew(place.path(), "a").unwrap();
        assert_eq!(names(), 3, "that of another name stays");
        // Whoever takes this one for dead leaves it alone all the same.
        let second = Draft::make_anew(place.path(), "a").unwrap();
        assert!(alive.made().exists() && second.made().exists());
        drop((alive, second));
        assert_eq!(names(), 2);
    }
}
