//! What is in the cache, files and directories alike, locked by whoever uses it; and when it was used.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens};
use rustix::io::Result;

use crate::fs::{self, open};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which of two caches something is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The one that is filled.
    Own,
    /// One that is only read: nothing in it is changed, not even a time.
    Lower,
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock {
    lock: fs::Lock,
    of: Of,
}

impl Lock {
    /// For a user of something; others may use it, too. Nothing, if it is not there or was just removed. A process that
    /// probes for use holds it for a moment, which is waited for. Where the file system has no locks nothing keeps it, nor
    /// does anybody remove it.
    pub(crate) fn shared(path: &Path) -> Option<Self> {
        Self::shared_in(Of::Own, path)
    }

    /// The same of something in either cache.
    pub(crate) fn shared_in(of: Of, path: &Path) -> Option<Self> {
        Self::take(of, path, fs::Lock::shared)
    }

    /// For whoever wants to remove it: nobody uses it.
    pub(crate) fn exclusive(path: &Path) -> Option<Self> {
        Self::take(Of::Own, path, |file| fs::Lock::take(file, FlockOperation::NonBlockingLockExclusive))
    }

    fn take(of: Of, path: &Path, lock: impl FnOnce(OwnedFd) -> Result<fs::Lock>) -> Option<Self> {
        let lock = lock(opened(path).ok()?).ok()?;
        lock.is_at(CWD, path).ok()?.then_some(Self { lock, of })
    }

    pub(crate) fn file(&self) -> &File {
        self.lock.file()
    }

    /// Whether it still has this name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.lock.is_at(CWD, path).unwrap_or(false)
    }

    /// Notes that it was used now: by this the cache knows what was not used for the longest time. That is known to the
    /// day, so that a use writes nothing more than once a day.
    pub(crate) fn touch(&self) {
        let used = self.file().metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age < DAY)) {
            return;
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        self.set_time(now);
    }

    /// Notes that it may be bad: nothing was last used in 1970.
    pub(crate) fn suspect(&self) {
        self.set_time(Timespec { tv_sec: 0, tv_nsec: 0 });
    }

    pub(crate) fn is_suspect(&self) -> bool {
        fstat(&self.lock).is_ok_and(|metadata| metadata.st_mtime == 0)
    }

    fn set_time(&self, time: Timespec) {
        if self.of == Of::Lower {
            return;
        }
        // Another user's cache may be readable and no more.
        let _ = futimens(&self.lock, &Timestamps { last_access: time, last_modification: time });
    }
}

/// Whether the file system of a directory has no locks, or none that other machines see: then nobody can tell what is in use.
pub(super) fn cannot_lock(directory: &Path) -> bool {
    let lock = |file| fs::Lock::take(file, FlockOperation::NonBlockingLockShared);
    opened(directory).and_then(lock).is_err_and(fs::means_no_locks) || are_local(directory)
}

/// Whether locks on directories say nothing of what other machines do.
pub(super) fn are_local_on_directories(directory: &Path) -> bool {
    opened(directory).is_ok_and(fs::locks_on_directories_are_local)
}

/// Whether locks in a directory, which need not be there yet, say nothing of what other machines do.
pub(super) fn are_local(directory: &Path) -> bool {
    opened(directory).is_ok_and(fs::locks_are_local)
}

fn opened(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())
}
