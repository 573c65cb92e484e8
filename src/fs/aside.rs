//! A temporary directory beside the destination, in which the result is made.
//!
//! Only its owner can enter it, it is locked (flock(2)) as long as its process lives, and it goes with all that is in
//! it when it is dropped. What a process leaves that was killed is removed by the next one that works in the same
//! place: only what has our name, our owner and our marker, or is empty, and is locked by nobody. All of them are listed, so that a program
//! that ends need not wait for whoever works in them.

use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::lock::{LONGEST_WORK, locks_on_directories_are_local};
use super::openat;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, fstat, linkat, mkdirat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::{Errno, Result};
use tempfile::NamedTempFile;

use super::remove::Stop;
use super::{Durability, Lock, Place, elsewhere, leftovers, open_directory, publishing, remove_contents_but};

/// What the names of such directories begin with.
pub(crate) const ASIDE: &str = ".layflat-";
/// Hexadecimal digits behind that.
const DIGITS: usize = 12;
/// Made in it once it is locked: without this a directory is taken for somebody else's.
const MARKER: &CStr = c"layflat-unfinished";

/// Where a process finds what it has open (proc_pid_fd(5)).
pub(super) const HANDLES: &str = "/proc/self/fd";

/// How soon is tried again to remove a directory in which somebody still makes files.
const AGAIN: Duration = Duration::from_millis(50);

/// Those of this process.
static ALL: Mutex<Vec<Weak<Unfinished>>> = Mutex::new(Vec::new());

/// A directory for what is not finished.
#[derive(Debug)]
pub(crate) struct Aside(Arc<Unfinished>);

#[derive(Debug)]
struct Unfinished {
    parent: OwnedFd,
    name: CString,
    directory: Lock,
    /// Locked by whoever removes it.
    gone: Mutex<bool>,
}

impl Aside {
    /// Makes it in `parent`, and removes what killed processes left there.
    ///
    /// # Errors
    /// What keeps it from being made; `CANCELED`, if the program is ending.
    pub(crate) fn make(parent: OwnedFd) -> Result<Self> {
        sweep(&parent);
        let _open = publishing()?;
        loop {
            let name = CString::new(format!("{ASIDE}{:0DIGITS$x}", random() >> 16)).map_err(|_| Errno::INVAL)?;
            match mkdirat(&parent, name.as_c_str(), Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            match claim(&parent, &name) {
                // Until it is locked, another process that sweeps may take it for an abandoned one.
                Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Ok(directory) => {
                    let unfinished = Arc::new(Unfinished { parent, name, directory, gone: Mutex::new(false) });
                    ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&unfinished));
                    return Ok(Self(unfinished));
                }
                Err(error) => {
                    let _ = unlinkat(&parent, name.as_c_str(), AtFlags::REMOVEDIR);
                    return Err(error);
                }
            }
        }
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.0.directory.as_fd()
    }

    /// The directory that it is in.
    pub(crate) fn parent(&self) -> BorrowedFd<'_> {
        self.0.parent.as_fd()
    }

    /// Its name there.
    pub(crate) fn name(&self) -> &CStr {
        &self.0.name
    }

    /// A path that leads to it whatever becomes of its name: by way of the handle. It is good in this process alone;
    /// for messages there is [`shown`].
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// Keeps it from being removed, by this process and by the next run, which takes one without a marker for somebody else's.
    pub(crate) fn keep(&self) {
        *self.0.gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let _ = unlinkat(self.directory(), MARKER, AtFlags::empty());
    }

    /// Writes a file that was made in it to disk, and gives it a place.
    ///
    /// # Errors
    /// `EXIST` if something is there and is not to be replaced.
    pub(crate) fn publish(
        &self,
        draft: NamedTempFile,
        place: &Place,
        replace: bool,
        durability: Durability,
    ) -> std::io::Result<()> {
        let (_file, path) = draft.keep().map_err(|error| error.error)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let (from, to) = (self.directory(), place.parent());
        // By its name: another program may have written it anew.
        durability.sync(openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)?;
        let publishing = publishing()?;
        if replace {
            renameat(from, name, to, place.name())?;
        } else {
            match renameat_with(from, name, to, place.name(), RenameFlags::NOREPLACE) {
                // A file system that knows no flags. A link is never made over what is there.
                Err(Errno::INVAL | Errno::NOSYS) => linkat(from, name, to, place.name(), AtFlags::empty())?,
                other => other?,
            }
        }
        drop(publishing);
        Ok(durability.sync(to)?)
    }
}

/// A path as it is to be shown: with the directory's own path where it leads by way of a handle.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let mut parts = path.components();
    let is_handle = path.strip_prefix(HANDLES).is_ok_and(|rest| rest.components().next().is_some());
    if !is_handle {
        return path.to_owned();
    }
    let handle: PathBuf = parts.by_ref().take(5).collect();
    handle.read_link().map_or_else(|_| path.to_owned(), |directory| directory.join(parts.as_path()))
}

impl Unfinished {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("{HANDLES}/{}", self.directory.file().as_raw_fd()))
    }

    /// Removes it with all that is in it, unless somebody else has.
    fn remove(&self) -> Result<()> {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if !*gone {
            let elsewhere = || elsewhere::remove(&self.parent, &self.name, &self.directory);
            let here = |stop| remove(&self.parent, &self.name, &self.directory, stop);
            match elsewhere().unwrap_or_else(|| here(&elsewhere::is_ending)) {
                // A signal has come meanwhile.
                Err(Errno::CANCELED) => elsewhere().unwrap_or_else(|| here(&|| false)),
                removed => removed,
            }?;
            *gone = true;
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What kept it from going may be gone: a handle that was missing, a call that failed.
        if let Err(error) = self.0.remove().or_else(|_| self.0.remove()) {
            leftovers::note(shown(&self.path()), error);
        }
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.0)));
    }
}

fn listed() -> Vec<Arc<Unfinished>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

/// Removes all of this process, also those in which somebody still works: what is made there meanwhile is removed, too, until the time is
/// over.
pub(super) fn remove_all(until: Instant) {
    for unfinished in listed() {
        while let Err(Errno::NOTEMPTY | Errno::NOENT) = unfinished.remove() {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// Where those of this process are that are still there.
pub(super) fn all() -> Vec<PathBuf> {
    let is_there = |unfinished: &Arc<Unfinished>| match unfinished.gone.try_lock() {
        Ok(gone) => !*gone,
        Err(TryLockError::Poisoned(gone)) => !**gone.get_ref(),
        Err(TryLockError::WouldBlock) => true,
    };
    listed().into_iter().filter(is_there).map(|unfinished| shown(&unfinished.path())).collect()
}

/// Locks a directory that was just made, and marks it as ours.
fn claim(parent: &OwnedFd, name: &CStr) -> Result<Lock> {
    let directory = Lock::of_new(open_directory(parent, name.to_bytes())?)?;
    // In one that was removed before it was locked nothing can be made.
    let marker = openat(&directory, MARKER, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR);
    marker.map(|_| directory)
}

/// Removes what is in a directory, and its name if that still is its name. The marker goes last, so that a process that is killed here
/// leaves what is known as ours.
fn remove(parent: &OwnedFd, name: &CStr, directory: &Lock, stop: Stop<'_>) -> Result<()> {
    remove_contents_but(rustix::io::fcntl_dupfd_cloexec(directory, 0)?, MARKER, stop)?;
    match unlinkat(directory, MARKER, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => remove_empty(parent, name, directory),
        Err(error) => Err(error),
    }
}

/// Removes such a directory for the process that has made it, which shares its lock.
pub(super) fn remove_given(parent: &OwnedFd, name: &[u8], directory: OwnedFd) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    // It stays locked for that process, whatever comes of this.
    let directory = ManuallyDrop::new(Lock::take(directory, FlockOperation::NonBlockingLockExclusive)?);
    match is_our_name(name.to_bytes()) {
        true if is_marked(&directory) => remove(parent, &name, &directory, &|| false),
        true => remove_empty(parent, &name, &directory),
        false => Err(Errno::INVAL),
    }
}

/// Removes an empty directory, if its name still is its name.
fn remove_empty(parent: &OwnedFd, name: &CStr, directory: &Lock) -> Result<()> {
    match directory.is_at(parent, name)? {
        true => unlinkat(parent, name, AtFlags::REMOVEDIR),
        false => Ok(()),
    }
}

/// Removes what killed processes of this user left in a directory.
fn sweep(parent: &OwnedFd) {
    let locks_are_local = locks_on_directories_are_local(parent);
    let Ok(entries) =
        openat(parent, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(Dir::new)
    else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_our_name(name.to_bytes()) {
            continue;
        }
        let Ok(directory) = open_directory(parent, name.to_bytes()) else { continue };
        // Another machine may work in it.
        if locks_are_local && is_recent(&directory) {
            continue;
        }
        if let Some(directory) = abandoned(directory) {
            // Whoever has made such a directory without a marker was killed right then, or right before it was gone: it is empty.
            let _ = match is_marked(&directory) {
                true => remove(parent, name, &directory, &elsewhere::is_ending),
                false => remove_empty(parent, name, &directory),
            };
        }
    }
}

/// Whether something was changed so recently that there may be work in it.
fn is_recent(directory: &OwnedFd) -> bool {
    let changed = fstat(directory).map(|status| u64::try_from(status.st_mtime).unwrap_or_default());
    let changed = changed.map(|changed| SystemTime::UNIX_EPOCH + Duration::from_secs(changed));
    changed.is_ok_and(|changed| changed.elapsed().map_or(true, |age| age < LONGEST_WORK))
}

/// Whether a name is one that we make.
fn is_our_name(name: &[u8]) -> bool {
    let digits = name.strip_prefix(ASIDE.as_bytes());
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
}

fn is_marked(directory: &Lock) -> bool {
    let own = rustix::process::geteuid().as_raw();
    statat(directory, MARKER, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|status| status.st_uid == own)
}

/// A directory of this user alone in which no process works. What we lock here stays locked until it is removed.
fn abandoned(directory: OwnedFd) -> Option<Lock> {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = fstat(&directory).is_ok_and(|status| status.st_uid == own && status.st_mode & 0o077 == 0);
    is_ours.then(|| Lock::take(directory, FlockOperation::NonBlockingLockExclusive).ok()).flatten()
}

fn random() -> u64 {
    // Seeded by the system's generator for each thread, and another for each call.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::open_path;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    fn path(place: &Path, aside: &Aside) -> PathBuf {
        place.join(aside.name().to_str().unwrap())
    }

    #[test]
    fn s2_it_goes_with_all_that_is_in_it() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
        std::fs::create_dir_all(path(place.path(), &aside).join("a/b")).unwrap();
        drop(aside);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn messages_show_its_own_path() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
        assert_eq!(shown(&aside.path().join("new/a")), path(place.path(), &aside).join("new/a"));
        assert_eq!(shown(Path::new("/proc/self/fd")), Path::new("/proc/self/fd"));
        assert_eq!(shown(Path::new("a/b")), Path::new("a/b"));
    }

    #[test]
    fn s7_what_was_put_in_its_place_stays() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
        let ours = path(place.path(), &aside);
        std::fs::rename(&ours, place.path().join("moved")).unwrap();
        std::fs::create_dir_all(ours.join("theirs")).unwrap();
        drop(aside);
        assert!(ours.join("theirs").is_dir());
    }

    #[test]
    fn s7_only_our_own_leftovers_are_swept() {
        let place = tempfile::tempdir().unwrap();
        let parent = || open_path(place.path()).unwrap();
        // Killed: the lock goes with the process, the directory stays.
        let killed = Aside::make(parent()).unwrap();
        let left = path(place.path(), &killed);
        rustix::fs::flock(&killed.0.directory, FlockOperation::Unlock).unwrap();
        std::mem::forget(killed);
        // Somebody else's, who chose such a name.
        let foreign = place.path().join(".layflat-0123456789ab");
        std::fs::create_dir_all(foreign.join("new")).unwrap();
        std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o700)).unwrap();
        let working = Aside::make(parent()).unwrap();
        assert!(!left.exists());
        let _other = Aside::make(parent()).unwrap();
        assert!(path(place.path(), &working).exists());
        assert!(foreign.join("new").is_dir());
    }

    #[test]
    fn s7_what_was_left_before_it_was_marked_or_after_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(".layflat-0123456789ab");
        std::fs::DirBuilder::new().mode(0o700).create(&left).unwrap();
        // A process that has made it and does not hold the lock yet makes another one.
        let others =
            [".layflat-0123456789", ".layflat-0123456789ag", ".layflat-of-mine"].map(|name| place.path().join(name));
        others.iter().for_each(|other| std::fs::DirBuilder::new().mode(0o700).create(other).unwrap());
        let _aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
        assert!(!left.exists());
        assert!(others.iter().all(|other| other.exists()));
    }

    #[test]
    fn s2_it_goes_whoever_makes_and_sweeps_at_the_same_time() {
        let place = tempfile::tempdir().unwrap();
        let work = || {
            for _ in 0..200 {
                let aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
                assert!(path(place.path(), &aside).join("layflat-unfinished").exists());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_removed_is_noted() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::make(open_path(place.path()).unwrap()).unwrap();
        let ours = path(place.path(), &aside);
        // Somebody puts something into it, that we cannot know of, again and again: here, between two looks, by hand.
        std::fs::remove_file(ours.join("layflat-unfinished")).unwrap();
        std::fs::create_dir(ours.join("layflat-unfinished")).unwrap();
        drop(aside);
        assert!(leftovers::take().iter().any(|left| left.path == ours));
    }
}
