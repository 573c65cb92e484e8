//! What is in the cache, files and directories alike, locked by whoever uses it; and when it was used.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens};

use crate::fs::{self, open};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock(fs::Lock);

impl Lock {
    /// For a user of something; others may use it, too. Nothing, if it is not there or was just removed. A process that
    /// probes for use holds it for a moment, which is waited for.
    pub(crate) fn shared(path: &Path) -> Option<Self> {
        Self::of(path, FlockOperation::LockShared)
    }

    /// For whoever wants to remove it: nobody uses it.
    pub(crate) fn exclusive(path: &Path) -> Option<Self> {
        Self::of(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn of(path: &Path, operation: FlockOperation) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let lock = fs::Lock::take(open(path, flags, Mode::empty()).ok()?, operation).ok()?;
        lock.is_at(CWD, path).ok()?.then_some(Self(lock))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.file()
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
        fstat(&self.0).is_ok_and(|metadata| metadata.st_mtime == 0)
    }

    fn set_time(&self, time: Timespec) {
        // Another user's cache may be readable and no more.
        let _ = futimens(&self.0, &Timestamps { last_access: time, last_modification: time });
    }
}
