//! Locks on files and directories (flock(2)): they go with their process, however it ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FlockOperation, fstat, statat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

use super::again::flock;

/// Something open that is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Locks what is open.
    ///
    /// # Errors
    /// `WOULDBLOCK`, if another process holds it and is not to be waited for.
    pub(crate) fn take(file: impl Into<File>, operation: FlockOperation) -> Result<Self> {
        let file = file.into();
        flock(&file, operation)?;
        Ok(Self(file))
    }

    /// Locks what is used and is not to be removed meanwhile; whoever probes for that is waited for. On a file system
    /// without locks it is not locked, and whoever wants to remove it finds that, too.
    ///
    /// # Errors
    /// What else keeps from locking.
    pub(crate) fn shared(file: impl Into<File>) -> Result<Self> {
        let file = file.into();
        share(&file)?;
        Ok(Self(file))
    }

    /// Locks what was made just now. On a file system without locks it is not locked.
    ///
    /// # Errors
    /// `WOULDBLOCK`, if another process was quicker.
    pub(crate) fn of_new(file: impl Into<File>) -> Result<Self> {
        let file = file.into();
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
            _ => Ok(Self(file)),
        }
    }

    /// Whether it still has this name. Between opening and locking, whoever held the lock before may have removed or
    /// replaced it.
    ///
    /// # Errors
    /// What keeps from looking.
    pub(crate) fn is_at(&self, directory: impl AsFd, name: impl Arg) -> Result<bool> {
        let there = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            there => there?,
        };
        let mine = fstat(&self.0)?;
        Ok((mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino))
    }

    /// What is locked.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// Locks what is open likewise, as long as it is open.
///
/// # Errors
/// As of [`Lock::shared`].
pub(crate) fn share(file: impl AsFd) -> Result<()> {
    match flock(file, FlockOperation::LockShared) {
        Err(error) if !means_no_locks(error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether it is the file system that has no locks: Lustre without `-o flock`, NFS without lockd, some of FUSE.
pub(crate) fn means_no_locks(error: Errno) -> bool {
    matches!(error, Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let open = || File::create(&path).unwrap();
        let alone = FlockOperation::NonBlockingLockExclusive;
        let lock = Lock::take(open(), FlockOperation::LockShared).unwrap();
        assert_eq!(Lock::take(open(), alone).unwrap_err(), Errno::WOULDBLOCK);
        drop(lock);
        assert!(Lock::take(open(), alone).is_ok());
    }

    #[test]
    fn what_was_replaced_is_not_what_is_locked() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let lock = Lock::of_new(File::create(&path).unwrap()).unwrap();
        assert!(lock.is_at(CWD, &path).unwrap());
        std::fs::write(place.path().join("other"), "").unwrap();
        std::fs::rename(place.path().join("other"), &path).unwrap();
        assert!(!lock.is_at(CWD, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_at(CWD, &path).unwrap());
    }
}
