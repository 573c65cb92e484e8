//! Partial blobs: an interrupted download continues in the next run.
//!
//! What there is of a blob lies under a name made of its digest, for one process at a time, which holds it locked; the
//! others wait for it, as long as it grows or whoever is at it shows that it is. If nothing is seen of that for a minute, one of them stands in for
//! it, under a name of its own. Its first bytes are read again like those that are still to come, so that
//! all of it is checked against the digest as ever. What cannot be right is removed.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Read, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Instant, SystemTime};

use super::UNFINISHED;
use super::blobs::{Blobs, sync_directory_of};
use super::lease::{BEAT, Beating, Grant, Lease, beat};
use super::lock::are_local;
use super::patience::Patience;
use super::turn::{Claim, claim};
use super::waiting::Waiting;
use crate::blob::{Arriving, Remote};
use crate::core::digest::Digest;
use crate::fs::{Durability, Lock, read_at};

/// Less than this is not worth keeping.
const LEAST: u64 = 64 << 10;
/// The same, where nothing interrupted it: somebody looked at how a layer begins.
const LEAST_ABANDONED: u64 = 1 << 20;

/// So many stand in for others, one after the other, before everybody fetches for himself.
const MOST_STAND_INS: usize = 3;

/// What there is of a blob.
#[derive(Debug)]
pub(super) struct Partial {
    /// It ends before the lock: another thread that gets that finds nothing of us.
    _ours: Ours,
    lock: Lock,
    path: PathBuf,
    /// Where all of it will be.
    target: PathBuf,
    /// Bytes that were there.
    had: u64,
    /// When it was last said that somebody is at it, although it did not grow.
    beaten: Instant,
    /// Where other machines do not see the lock.
    lease: Option<Lease>,
}

/// Who fetches a blob.
pub(super) enum Wanted<T> {
    /// Nobody has to: it is there.
    Whole(T),
    /// This one, to whom what there is of it belongs now.
    Mine(Partial),
    /// This one, for itself.
    Alone,
    /// This one, for all, without keeping what there is of it: nothing can be locked.
    Leased(Leased),
}

/// Who fetches a blob where locks do not tell. It must be said that there is progress.
#[derive(Debug)]
pub(super) struct Leased {
    lease: Lease,
    _ours: Ours,
}

impl Leased {
    /// Says that something came.
    pub(super) fn beat(&mut self) {
        self.lease.beat();
    }

    /// The same from now on, as long as this is there.
    pub(super) fn beating(self) -> Self {
        Self { lease: self.lease.beating(), ..self }
    }
}

/// What this process fetches, and which of its threads began with it. That one does not wait for it: it would have to go on reading itself.
static FETCHING: Mutex<BTreeMap<PathBuf, ThreadId>> = Mutex::new(BTreeMap::new());

/// A place in that list.
#[derive(Debug)]
struct Ours(PathBuf);

impl Ours {
    fn put(path: &Path) -> Option<Self> {
        let mut fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
        if fetching.contains_key(path) {
            return None;
        }
        fetching.insert(path.to_owned(), std::thread::current().id());
        Some(Self(path.to_owned()))
    }

    /// The thread that fetches it.
    fn thread(path: &Path) -> Option<ThreadId> {
        FETCHING.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn is_of_this_thread(path: &Path) -> bool {
        Self::thread(path) == Some(std::thread::current().id())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        FETCHING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

impl Partial {
    /// Waits until a blob is there, as `whole` tells, or nobody else is fetching it, or nothing is seen of whoever does.
    pub(super) fn wait<T>(
        target: &Path,
        digest: &Digest,
        size: u64,
        waiting: &Waiting,
        whole: impl Fn() -> Option<T>,
    ) -> Wanted<T> {
        let Some(first) = place(target, digest) else { return Wanted::Alone };
        let directory = target.parent().unwrap_or(target);
        let is_local = are_local(directory);
        let mut lease = None;
        let mut stand_ins = 0;
        let mut patience: Option<Patience<_>> = None;
        let look = || {
            if let Some(whole) = whole() {
                return Some(Wanted::Whole(whole));
            }
            let path = stand_in(&first, stand_ins);
            if is_local && lease.is_none() {
                match Lease::try_take_quiet(directory, digest.hex(), waiting.patience()) {
                    Grant::Mine(mine) => lease = Some(mine),
                    Grant::Busy if Ours::is_of_this_thread(&path) => return Some(Wanted::Alone),
                    // Whoever has it says itself whether there is progress.
                    Grant::Busy => return None,
                    Grant::Impossible => {}
                }
            }
            match Self::try_open(&path, target, size) {
                Ok(partial) => {
                    // It may have become whole just before that: then the place was free, and nobody is to fetch it again.
                    if let Some(whole) = whole() {
                        let _ = std::fs::remove_file(&partial.path);
                        return Some(Wanted::Whole(whole));
                    }
                    return Some(Wanted::Mine(Self { lease: lease.take(), ..partial }));
                }
                Err(_) if Ours::is_of_this_thread(&path) => return Some(Wanted::Alone),
                Err(claim) => {
                    if matches!(claim, Claim::Impossible)
                        && let Some(ours) = Ours::put(&path)
                    {
                        let granted = match lease.take() {
                            Some(lease) => Grant::Mine(lease),
                            None => Lease::try_take_quiet(directory, digest.hex(), waiting.patience()),
                        };
                        return match granted {
                            Grant::Mine(lease) => Some(match whole() {
                                Some(whole) => Wanted::Whole(whole),
                                None => Wanted::Leased(Leased { lease, _ours: ours }),
                            }),
                            Grant::Busy => None,
                            Grant::Impossible => Some(Wanted::Alone),
                        };
                    }
                }
            }
            let (signs, now) = (signs(&path), Instant::now());
            if patience.get_or_insert_with(|| Patience::begin(signs, now)).look(signs, now) < waiting.patience() {
                return None;
            }
            (stand_ins, patience) = (stand_ins + 1, None);
            (stand_ins > MOST_STAND_INS).then_some(Wanted::Alone)
        };
        // That it is this process itself which is waited for nobody needs to know.
        let silent = waiting.silently();
        let waiting = if Ours::thread(&first).is_some() { &silent } else { waiting };
        waiting.until(&format_args!("fetches blob {digest}"), look).unwrap_or(Wanted::Alone)
    }

    /// What there is of a blob of `size` bytes that will be at `target`; nothing if somebody else is at it.
    #[cfg(test)]
    pub(super) fn open(target: &Path, digest: &Digest, size: u64) -> Option<Self> {
        Self::try_open(&place(target, digest)?, target, size).ok()
    }

    fn try_open(path: &Path, target: &Path, size: u64) -> std::result::Result<Self, Claim> {
        let lock = match claim(path) {
            Claim::Mine(lock) => lock,
            other => return Err(other),
        };
        let ours = Ours::put(path).ok_or(Claim::Busy)?;
        let length = lock.file().metadata().map_err(|_| Claim::Impossible)?.len();
        let had = if length <= size { length } else { 0 };
        if had != length {
            lock.file().set_len(0).map_err(|_| Claim::Impossible)?;
        }
        let (path, target) = (path.to_owned(), target.to_owned());
        Ok(Self { _ours: ours, lock, path, target, had, beaten: Instant::now(), lease: None })
    }

    /// Says that somebody is at it, although it does not grow.
    fn beat(&mut self) {
        if self.beaten.elapsed() >= BEAT {
            self.beaten = Instant::now();
            beat(self.lock.file());
        }
        self.lease.as_mut().map(Lease::beat);
    }

    /// The whole blob: what is here, and then what is elsewhere, which is asked for when it is needed. To read again what is here may take so long
    /// that a connection would not wait.
    pub(super) fn fetch(self, remote: Arc<dyn Remote>, blobs: &Blobs) -> Box<dyn Arriving> {
        let (size, blobs) = (remote.len(), blobs.clone());
        Box::new(Fetch { partial: Some(self), remote, stream: None, size, at: 0, end: End::Abandoned, blobs })
    }
}

/// Where what there is of a blob lies that will be at `target`.
fn place(target: &Path, digest: &Digest) -> Option<PathBuf> {
    let directory = target.parent()?;
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
    Some(directory.join(format!("{UNFINISHED}{}", digest.hex())))
}

/// Where another one fetches it who stands in, as the first one, the second and so on.
fn stand_in(first: &Path, number: usize) -> PathBuf {
    let mut name = first.as_os_str().to_owned();
    if number > 0 {
        name.push(format!("-{number}"));
    }
    name.into()
}

/// What others see of whoever is at it.
fn signs(path: &Path) -> (u64, Option<SystemTime>) {
    path.metadata().map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()))
}

/// How it ended, if it is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Whoever read it wanted no more of it: enough was seen, or it was found to be wrong.
    Abandoned,
    /// Nothing more came.
    Interrupted,
    /// It could not be written.
    Unwritten,
}

struct Fetch {
    partial: Option<Partial>,
    remote: Arc<dyn Remote>,
    stream: Option<Box<dyn Arriving>>,
    size: u64,
    /// Bytes handed out.
    at: u64,
    end: End,
    blobs: Blobs,
}

impl Read for Fetch {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(partial) = &mut self.partial else { return Ok(0) };
        if self.at < partial.had {
            let most = buffer.len().min(usize::try_from(partial.had - self.at).unwrap_or(usize::MAX));
            let count = read_at(partial.lock.file(), &mut buffer[..most], self.at)?;
            self.at += count as u64;
            partial.beat();
            return Ok(count);
        }
        if self.stream.is_none() && self.at < self.size {
            let asked = self.remote.open_from(self.at);
            self.stream = Some(asked.inspect_err(|_| self.end = End::Interrupted)?);
        }
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let count = stream.read(buffer).inspect_err(|_| self.end = End::Interrupted)?;
        partial.lock.file().write_all_at(&buffer[..count], self.at).map_err(|error| {
            self.end = End::Unwritten;
            self.blobs.error(error)
        })?;
        self.at += count as u64;
        partial.lease.as_mut().map(Lease::beat);
        Ok(count)
    }
}

impl Arriving for Fetch {
    fn verified(mut self: Box<Self>) -> Result<()> {
        if let Some(stream) = self.stream.take() {
            stream.verified()?;
        }
        let Some(mut partial) = self.partial.take() else { return Ok(()) };
        // It grows no more, and a disk may take its time.
        partial.lease = partial.lease.map(Lease::beating);
        let beating = Beating::of(partial.lock.file());
        let publish = || {
            Durability::Synced.sync(partial.lock.file())?;
            match std::fs::rename(&partial.path, &partial.target) {
                // Another machine took this one for dead, went on with the same file, and was quicker.
                Err(error) if error.kind() == ErrorKind::NotFound && partial.target.exists() => {}
                other => other?,
            }
            sync_directory_of(&partial.target)
        };
        let published = publish().map_err(|error| self.blobs.error(error));
        // It has the file open, too, and with that the lock.
        drop(beating);
        published
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let Some(partial) = self.partial.take() else { return };
        let is_kept = match self.end {
            End::Interrupted => self.at.max(partial.had) >= LEAST,
            End::Unwritten => false,
            // All of it was seen and nobody said that it is right; or what was here from before may have been what is
            // wrong with it.
            End::Abandoned => self.at < self.size && partial.had == 0 && self.at >= LEAST_ABANDONED,
        };
        if !is_kept {
            // Nobody else can be at it: it is locked.
            let _ = std::fs::remove_file(&partial.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Cursor, Error};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::blob::Blob;

    /// Bytes from elsewhere, of which only so many come before the connection breaks.
    #[derive(Debug, Clone)]
    struct Elsewhere {
        bytes: Arc<[u8]>,
        breaks_at: u64,
        asked_from: Arc<AtomicU64>,
        asked: Arc<AtomicU64>,
    }

    struct Stream(Cursor<Arc<[u8]>>, u64);

    impl Remote for Elsewhere {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn open(&self) -> Result<Box<dyn Arriving>> {
            self.open_from(0)
        }

        fn open_from(&self, offset: u64) -> Result<Box<dyn Arriving>> {
            self.asked_from.store(offset, Ordering::Relaxed);
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut cursor = Cursor::new(Arc::clone(&self.bytes));
            cursor.set_position(offset);
            Ok(Box::new(Stream(cursor, self.breaks_at)))
        }
    }

    impl Read for Stream {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let left = self.1.saturating_sub(self.0.position());
            if left == 0 {
                return Err(Error::other("broken"));
            }
            let most = buffer.len().min(usize::try_from(left).unwrap());
            self.0.read(&mut buffer[..most])
        }
    }

    impl Arriving for Stream {
        fn verified(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    fn elsewhere(bytes: &[u8], breaks_at: u64) -> Elsewhere {
        Elsewhere { bytes: bytes.into(), breaks_at, asked_from: Arc::default(), asked: Arc::default() }
    }

    fn read(blobs: &Blobs, digest: &Digest, remote: &Elsewhere) -> std::result::Result<Vec<u8>, String> {
        let blob: Blob = blobs.keeping(digest, remote.clone());
        blob.stated(Some(digest.clone()), None).read_all(1 << 20).map_err(|error| error.to_string())
    }

    #[test]
    fn an_interrupted_download_goes_on_where_it_ended() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(place.path());
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let digest = Digest::sha256_of(&content);
        read(&blobs, &digest, &elsewhere(&content, 150_000)).unwrap_err();
        let whole = elsewhere(&content, u64::MAX);
        // While somebody is at it, another one fetches for itself.
        let partial = Partial::open(&place.path().join("blobs/sha256").join(digest.hex()), &digest, 400_000).unwrap();
        assert_eq!(partial.had, 150_000);
        assert_eq!(read(&blobs, &digest, &elsewhere(&content, u64::MAX)).unwrap(), content);
        std::fs::remove_file(place.path().join("blobs/sha256").join(digest.hex())).unwrap();
        drop(partial);
        assert_eq!(read(&blobs, &digest, &whole).unwrap(), content);
        assert_eq!(whole.asked_from.load(Ordering::Relaxed), 150_000);
        assert_eq!(std::fs::read_dir(place.path().join("blobs/sha256")).unwrap().count(), 1);
    }

    #[test]
    fn s3_what_went_bad_in_between_is_found_out_and_fetched_anew() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(place.path());
        let content = vec![7; 400_000];
        let digest = Digest::sha256_of(&content);
        let path = place.path().join("blobs/sha256").join(format!("{UNFINISHED}{}", digest.hex()));
        for bad in [vec![8; 150_000], vec![7; 500_000], vec![8; 400_000]] {
            read(&blobs, &digest, &elsewhere(&content, 100_000)).unwrap_err();
            std::fs::write(&path, &bad).unwrap();
            let first = read(&blobs, &digest, &elsewhere(&content, u64::MAX));
            // More than there can be is seen at once.
            assert_eq!(first.is_ok(), bad.len() > 400_000);
            assert!(!path.exists());
            assert_eq!(read(&blobs, &digest, &elsewhere(&content, u64::MAX)).unwrap(), content);
            std::fs::remove_file(place.path().join("blobs/sha256").join(digest.hex())).unwrap();
        }
    }

    /// Of 32 tasks on four machines one asked a registry for what another one had just kept: it had looked for the blob before that, and
    /// for its place after it.
    #[test]
    fn what_is_kept_between_a_look_and_a_lock_is_not_fetched_again() {
        let place = tempfile::tempdir().unwrap();
        let digest = Digest::sha256_of(b"content");
        let target = place.path().join("blobs/sha256").join(digest.hex());
        let looks = Cell::new(0);
        let whole = || {
            looks.set(looks.get() + 1);
            (looks.get() > 1).then_some(())
        };
        let wanted = Partial::wait(&target, &digest, 7, &Waiting::default(), whole);
        assert!(matches!(wanted, Wanted::Whole(())));
        assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 0, "the place is left to others");
    }

    #[test]
    fn threads_of_one_process_fetch_a_blob_once() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(place.path());
        let content = vec![7; 400_000];
        let digest = Digest::sha256_of(&content);
        let remote = elsewhere(&content, u64::MAX);
        let begin = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    begin.wait();
                    assert_eq!(read(&blobs, &digest, &remote).unwrap(), content);
                });
            }
        });
        assert_eq!(remote.asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn of_those_who_wait_for_one_that_stands_still_one_stands_in() {
        let place = tempfile::tempdir().unwrap();
        let digest = Digest::sha256_of(b"content");
        let target = place.path().join("blobs/sha256").join(digest.hex());
        let waiting = Waiting::default().no_longer_than(Duration::from_secs(1));
        let (is_whole, stood_in) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let (has_begun, is_over) = (Barrier::new(7), Barrier::new(7));
        std::thread::scope(|scope| {
            // Nothing comes of this one.
            scope.spawn(|| {
                let stuck = Partial::open(&target, &digest, 7).unwrap();
                has_begun.wait();
                is_over.wait();
                drop(stuck);
            });
            for _ in 0..6 {
                scope.spawn(|| {
                    has_begun.wait();
                    // When it looked last, and before that: between both it gets the place, if it does.
                    let looked = Cell::new([Instant::now(); 2]);
                    let whole = || {
                        looked.set([looked.get()[1], Instant::now()]);
                        is_whole.load(Ordering::SeqCst).then_some(())
                    };
                    let wanted = Partial::wait(&target, &digest, 7, &waiting, whole);
                    if matches!(wanted, Wanted::Mine(_)) {
                        is_whole.store(true, Ordering::SeqCst);
                        stood_in.lock().unwrap().push(looked.get()[0].elapsed());
                    } else {
                        assert!(matches!(wanted, Wanted::Whole(())));
                    }
                    is_over.wait();
                });
            }
        });
        // Another one may stand in for one of them that stood still for so long itself, as on a busy machine.
        let stood_in = stood_in.into_inner().unwrap();
        let slow = stood_in.iter().filter(|took| **took >= waiting.patience()).count();
        assert!((1..=1 + slow).contains(&stood_in.len()), "{stood_in:?}");
    }

    #[test]
    fn who_shows_signs_of_life_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let digest = Digest::sha256_of(b"content");
        let target = place.path().join("blobs/sha256").join(digest.hex());
        let waiting = Waiting::default().no_longer_than(Duration::from_secs(1));
        // Of another thread: this one would not wait for itself.
        let open = || Partial::open(&target, &digest, 7).unwrap();
        let slow = std::thread::scope(|scope| scope.spawn(open).join().unwrap());
        let began = Instant::now();
        let whole = || {
            beat(slow.lock.file());
            (began.elapsed() > 3 * waiting.patience()).then_some(())
        };
        assert!(matches!(Partial::wait(&target, &digest, 7, &waiting, whole), Wanted::Whole(())));
    }
}
