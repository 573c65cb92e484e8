//! Partial blobs: an interrupted download continues in the next run.
//!
//! What there is of a blob lies under a name made of its digest, for one process at a time, which holds it locked; the
//! others wait for it, as long as it grows. Its first bytes are read again like those that are still to come, so that
//! all of it is checked against the digest as ever. What cannot be right is removed.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Read, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::UNFINISHED;
use super::blobs::{Blobs, sync_directory_of};
use super::lease::{Grant, Lease};
use super::lock::are_local;
use super::turn::{Claim, claim};
use super::waiting::Waiting;
use crate::blob::{Arriving, Remote};
use crate::core::digest::Digest;
use crate::fs::{Durability, Lock, read_at};

/// Less than this is not worth keeping.
const LEAST: u64 = 64 << 10;
/// The same, where nothing interrupted it: somebody looked at how a layer begins.
const LEAST_ABANDONED: u64 = 1 << 20;

/// Who fetches a blob and gets nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is of a blob.
#[derive(Debug)]
pub(super) struct Partial {
    lock: Lock,
    path: PathBuf,
    /// Where all of it will be.
    target: PathBuf,
    /// Bytes that were there.
    had: u64,
    _ours: Ours,
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
}

/// What this process fetches. Nobody in it waits for that: it may be the waiting one who would have to go on reading.
static FETCHING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A place in that list.
#[derive(Debug)]
struct Ours(PathBuf);

impl Ours {
    fn put(path: &Path) -> Option<Self> {
        let is_new = FETCHING.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        is_new.then(|| Self(path.to_owned()))
    }

    fn is_there(path: &Path) -> bool {
        FETCHING.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        FETCHING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

impl Partial {
    /// Waits until a blob is there, as `whole` tells, or nobody else is fetching it, or whoever does makes no progress.
    pub(super) fn wait<T>(
        target: &Path,
        digest: &Digest,
        size: u64,
        waiting: &Waiting,
        whole: impl Fn() -> Option<T>,
    ) -> Wanted<T> {
        let Some(path) = place(target, digest) else { return Wanted::Alone };
        let directory = target.parent().unwrap_or(target);
        let is_local = are_local(directory);
        let length = || path.metadata().map_or(0, |metadata| metadata.len());
        let mut progress = (length(), Instant::now());
        let mut lease = None;
        let look = || {
            if let Some(whole) = whole() {
                return Some(Wanted::Whole(whole));
            }
            if is_local && lease.is_none() {
                match Lease::try_take_quiet(directory, digest.hex()) {
                    Grant::Mine(mine) => lease = Some(mine),
                    Grant::Busy if Ours::is_there(&path) => return Some(Wanted::Alone),
                    // Whoever has it says itself whether there is progress.
                    Grant::Busy => return None,
                    Grant::Impossible => {}
                }
            }
            match Self::try_open(&path, target, size) {
                Ok(partial) => {
                    // It may have become whole just before that.
                    if let Some(whole) = whole() {
                        let _ = std::fs::remove_file(&partial.path);
                        return Some(Wanted::Whole(whole));
                    }
                    return Some(Wanted::Mine(Self { lease: lease.take(), ..partial }));
                }
                Err(Claim::Busy) if !Ours::is_there(&path) => {}
                Err(Claim::Impossible) => {
                    let Some(ours) = Ours::put(&path) else { return Some(Wanted::Alone) };
                    let granted = match lease.take() {
                        Some(lease) => Grant::Mine(lease),
                        None => Lease::try_take_quiet(directory, digest.hex()),
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
                Err(_) => return Some(Wanted::Alone),
            }
            let now = length();
            if now != progress.0 {
                progress = (now, Instant::now());
            }
            (progress.1.elapsed() > PATIENCE).then_some(Wanted::Alone)
        };
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
        Ok(Self { lock, path: path.to_owned(), target: target.to_owned(), had, _ours: ours, lease: None })
    }

    /// The whole blob: what is here, and then what is elsewhere.
    pub(super) fn fetch(self, remote: &dyn Remote, blobs: &Blobs) -> Result<Box<dyn Arriving>> {
        let size = remote.len();
        let stream = if self.had < size { Some(remote.open_from(self.had)) } else { None };
        let mut fetch =
            Fetch { partial: Some(self), stream: None, size, at: 0, end: End::Abandoned, blobs: blobs.clone() };
        match stream.transpose() {
            Ok(stream) => fetch.stream = stream,
            Err(error) => {
                fetch.end = End::Interrupted;
                return Err(error);
            }
        }
        Ok(Box::new(fetch))
    }
}

/// Where what there is of a blob lies that will be at `target`.
fn place(target: &Path, digest: &Digest) -> Option<PathBuf> {
    let directory = target.parent()?;
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
    Some(directory.join(format!("{UNFINISHED}{}", digest.hex())))
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
            return Ok(count);
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
        let Some(partial) = self.partial.take() else { return Ok(()) };
        let publish = || {
            Durability::Synced.sync(partial.lock.file())?;
            match std::fs::rename(&partial.path, &partial.target) {
                // Another machine took this one for dead, went on with the same file, and was quicker.
                Err(error) if error.kind() == ErrorKind::NotFound && partial.target.exists() => {}
                other => other?,
            }
            sync_directory_of(&partial.target)
        };
        publish().map_err(|error| self.blobs.error(error))
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
    use std::io::{Cursor, Error};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::blob::Blob;

    /// Bytes from elsewhere, of which only so many come before the connection breaks.
    #[derive(Debug, Clone)]
    struct Elsewhere {
        bytes: Arc<[u8]>,
        breaks_at: u64,
        asked_from: Arc<AtomicU64>,
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
        Elsewhere { bytes: bytes.into(), breaks_at, asked_from: Arc::default() }
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
}
