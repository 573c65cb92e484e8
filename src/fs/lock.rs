//! Locks on files and directories (flock(2)): they go with their process, however it ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

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

/// What is open is closed by that, but a program that another thread starts has it open until it begins, and with that the lock.
impl Drop for Lock {
    fn drop(&mut self) {
        // Where nothing was locked there is nothing to unlock.
        let _ = flock(&self.0, FlockOperation::Unlock);
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

/// Where a lock on a directory says nothing of other machines, one of them may use what was changed less than so long ago.
pub(crate) const LONGEST_WORK: Duration = Duration::from_secs(2 * 24 * 3600);

/// File systems that other machines may have, too, by the numbers that their sources have, as statfs(2) shows them.
const NFS: u32 = 0x6969;
const LUSTRE: u32 = 0x0bd0_0bd0;
const BEEGFS: u32 = 0x1983_0326;
const GPFS: u32 = 0x4750_4653;
const CIFS: u32 = 0xff53_4d42;
const SMB: u32 = 0xfe53_4d42;
const PLAN_9: u32 = 0x0102_1997;
const FUSE: u32 = 0x6573_5546;

/// Whether locks in a directory are seen by this machine alone, although others have the file system, too: Lustre with `localflock`, NFS with
/// `local_lock` or `nolock`, and BeeGFS, which does not tell how it is configured. Then a lock says nothing of what other machines do.
pub(crate) fn locks_are_local(directory: impl AsFd) -> bool {
    match file_system(&directory) {
        BEEGFS => true,
        NFS | LUSTRE => mount_options(directory).is_some_and(|options| make_locks_local(&options)),
        _ => false,
    }
}

/// Whether locks on directories are seen by this machine alone, although others may have the file system, too: of these only CephFS hands them on. The
/// kernel keeps those of the others to itself.
pub(crate) fn locks_on_directories_are_local(directory: impl AsFd) -> bool {
    matches!(file_system(&directory), NFS | LUSTRE | BEEGFS | GPFS | CIFS | SMB | PLAN_9 | FUSE)
}

fn file_system(directory: impl AsFd) -> u32 {
    // the type of the field differs by architecture, its value does not
    rustix::fs::fstatfs(directory).map_or(0, |status| status.f_type as u32)
}

/// What the file system that something lies on was mounted with (proc_pid_mountinfo(5)): the last field.
fn mount_options(directory: impl AsFd) -> Option<String> {
    let status = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID).ok()?;
    let id = status.stx_mnt_id.to_string();
    let mounts = super::mountinfo().ok()?;
    // What others have mounted may have any name.
    let mounts = String::from_utf8_lossy(&mounts);
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(&id))?;
    line.rsplit(' ').next().map(str::to_owned)
}

fn make_locks_local(options: &str) -> bool {
    options.split(',').any(|option| matches!(option, "localflock" | "nolock" | "local_lock=all" | "local_lock=flock"))
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
        // A program that another thread starts has it open for a moment, too, until it begins (fork(2)).
        let inherited = lock.file().try_clone().unwrap();
        drop(lock);
        assert!(Lock::take(open(), alone).is_ok());
        drop(inherited);
    }

    #[test]
    fn locks_that_other_machines_do_not_see_are_known_by_mount_options() {
        let here = File::open(".").unwrap();
        assert!(!locks_are_local(&here) && !locks_on_directories_are_local(&here));
        assert!(mount_options(File::open(".").unwrap()).is_some_and(|options| options.starts_with('r')));
        for options in ["rw,localflock", "rw,vers=3,nolock,addr=10.0.0.1,local_lock=all", "rw,local_lock=flock,addr=x"]
        {
            assert!(make_locks_local(options), "{options}");
        }
        for options in ["rw,flock", "rw,vers=4.2,local_lock=none", "rw,vers=3,local_lock=posix"] {
            assert!(!make_locks_local(options), "{options}");
        }
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
