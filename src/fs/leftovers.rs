//! What could not be removed at the end. Values that clean up when they are dropped have nobody to give an error to.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

static LEFT: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// A directory of unfinished work that could not be removed. The next run that works in the same place tries it again.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the temporary directory {path:?}")]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// What the kernel says.
    #[source]
    pub error: std::io::Error,
}

pub(super) fn note(path: PathBuf, error: Errno) {
    let error = match error {
        // Rule S7: no mount is entered.
        Errno::XDEV => {
            std::io::Error::other("something is mounted in it; once it is unmounted the next run removes it")
        }
        error => error.into(),
    };
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(Leftover { path, error });
}

/// What this process could not remove since this was last asked.
pub fn take() -> Vec<Leftover> {
    std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner))
}
