//! Whose turn it is to make something: of several processes that want the same thing one makes it, and the others wait
//! for it.
//!
//! The turn is a locked file beside the place of what is made, named after it. The lock goes with its process, so that
//! whoever waited for one that was killed has the next turn. Where the file system has no locks, or none that other
//! machines see, a [`Lease`] says whose turn it is; where not even that can be written, everybody has one.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{DirBuilder, Permissions};
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::UNFINISHED;
use super::lease::{Grant, Lease};
use super::lock::are_local;
use super::waiting::Waiting;
use crate::fs::{Lock, means_no_locks, open};

/// The mode of what is made, in a directory that is closed to others.
const FILE_MODE: u32 = 0o644;

/// What came of trying to lock a file that is to be made.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is ours, as long as it is open.
    Mine(Lock),
    /// Another one has it, or it was just finished or removed.
    Busy,
    /// It cannot be made or locked here.
    Impossible,
}

/// Directories in which nothing can be locked.
static WITHOUT_LOCKS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn is_without_locks(path: &Path) -> bool {
    let known = WITHOUT_LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    path.parent().is_some_and(|directory| known.contains(directory))
}

/// Notes that nothing can be locked there, and removes what was made in vain.
fn learn(path: &Path) {
    let mut known = WITHOUT_LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(path.parent().map(Path::to_owned));
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        let _ = std::fs::remove_file(path);
    }
}

/// Makes a file if it is not there, and locks it.
pub(super) fn claim(path: &Path) -> Claim {
    if is_without_locks(path) {
        return Claim::Impossible;
    }
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(file) = open(path, flags, Mode::from_raw_mode(FILE_MODE)) else { return Claim::Impossible };
    match Lock::take(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(lock) if !lock.file().metadata().is_ok_and(|metadata| metadata.is_file()) => Claim::Impossible,
        // Between opening and locking it may have been finished, or removed.
        Ok(lock) if lock.is_at(CWD, path).unwrap_or(false) => Claim::Mine(lock),
        Ok(_) | Err(Errno::WOULDBLOCK | Errno::INTR) => Claim::Busy,
        Err(error) => {
            if means_no_locks(error) {
                learn(path);
            }
            Claim::Impossible
        }
    }
}

/// Removes the turns of processes that were killed.
pub(crate) fn sweep(directory: &Path) {
    // Those may be other machines' turns.
    if are_local(directory) {
        return;
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_turn = entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes());
        let path = entry.path();
        // Who has it locked has it alone, and whoever is about to lock it sees that it has gone.
        if is_turn && let Claim::Mine(_lock) = claim(&path) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// A turn that one has. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    held: Option<(Lock, PathBuf)>,
    /// It ends after the file has gone.
    _lease: Option<Lease>,
}

impl Turn {
    /// Takes the turn to make `name` in a directory, if it is free.
    pub(crate) fn try_take(directory: &Path, name: &str) -> Option<Self> {
        // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let mut lease = None;
        if are_local(directory) {
            match Self::leased(directory, name) {
                Some(mut turn) => lease = turn._lease.take(),
                None => return None,
            }
        }
        let path = directory.join(format!("{UNFINISHED}{name}"));
        match claim(&path) {
            Claim::Mine(lock) => Some(Self { held: Some((lock, path)), _lease: lease }),
            Claim::Busy => None,
            Claim::Impossible if lease.is_some() => Some(Self { held: None, _lease: lease }),
            Claim::Impossible => Self::leased(directory, name),
        }
    }

    /// The same, where locks do not tell.
    fn leased(directory: &Path, name: &str) -> Option<Self> {
        match Lease::try_take(directory, name) {
            Grant::Mine(lease) => Some(Self { held: None, _lease: Some(lease) }),
            // Who has the lease has made it: a thousand that wait need not have it one after the other.
            Grant::Busy if directory.join(name).exists() => Some(Self { held: None, _lease: None }),
            Grant::Busy => None,
            Grant::Impossible => Some(Self { held: None, _lease: None }),
        }
    }

    /// Waits for the turn to make `name` in a directory; nothing if the work was cancelled.
    pub(crate) fn take(directory: &Path, name: &str, waiting: &Waiting, what: &dyn Display) -> Option<Self> {
        waiting.until(what, || Self::try_take(directory, name))
    }

    /// Publishes a file with these bytes under a name beside it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn publish(mut self, bytes: &[u8], target: &Path) -> std::io::Result<()> {
        let directory = target.parent().unwrap_or(target);
        let Some((lock, path)) = &self.held else {
            let mode = Permissions::from_mode(FILE_MODE);
            let mut file = tempfile::Builder::new().prefix(UNFINISHED).permissions(mode).tempfile_in(directory)?;
            file.write_all(bytes)?;
            file.persist(target)?;
            return Ok(());
        };
        let mut file = lock.file();
        // A killed process may have left some of it.
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(bytes)?;
        std::fs::rename(path, target)?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((_lock, path)) = &self.held {
            // Nobody else can be at it: it is locked.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_for_one_and_ends_with_it() {
        let place = tempfile::tempdir().unwrap();
        let turn = Turn::try_take(place.path(), "a").unwrap();
        assert!(Turn::try_take(place.path(), "a").is_none());
        assert!(Turn::try_take(place.path(), "b").is_some());
        drop(turn);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(Turn::try_take(place.path(), "a").is_some());
    }

    #[test]
    fn a_killed_process_leaves_its_turn_to_the_next() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("new-a"), "half of something long").unwrap();
        std::fs::write(place.path().join("new-b"), "").unwrap();
        let other = Turn::try_take(place.path(), "c").unwrap();
        sweep(place.path());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "only what somebody has");
        drop(other);
        std::fs::write(place.path().join("new-a"), "half of something long").unwrap();
        let turn = Turn::try_take(place.path(), "a").unwrap();
        turn.publish(b"all of it", &place.path().join("a")).unwrap();
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"all of it");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
