//! What is to be kept, as long as it is not whole.

use std::fs::DirBuilder;
use std::io::{Result, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

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
        let around = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(group)?;
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
