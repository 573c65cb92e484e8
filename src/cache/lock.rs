//! Locks on what is in the cache, files and directories alike (flock(2)): they go with their process, however it ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, fstat, futimens, open, stat};

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock(File);

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
        let file: File = open(path, flags, Mode::empty()).ok()?.into();
        flock(&file, operation).ok()?;
        // Between opening and locking it may have been removed, or replaced.
        let (mine, there) = (fstat(&file).ok()?, stat(path).ok()?);
        ((mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)).then_some(Self(file))
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Notes that it was used now: by this the cache knows what was not used for the longest time.
    pub(crate) fn touch(&self) {
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
        let _ = futimens(self.0.as_fd(), &Timestamps { last_access: time, last_modification: time });
    }
}
