//! Partial blobs: an interrupted download continues in the next run.
//!
//! What there is of a blob lies under a name made of its digest, for one process at a time, which holds it locked. Its
//! first bytes are read again like those that are still to come, so that all of it is checked against the digest as
//! ever. What cannot be right is removed.

use std::fs::DirBuilder;
use std::io::{Read, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use super::UNFINISHED;
use super::blobs::{Blobs, sync_directory_of};
use crate::blob::{Arriving, Remote};
use crate::core::digest::Digest;
use crate::fs::{Lock, open, read_at};

/// Less than this is not worth keeping.
const LEAST: u64 = 64 << 10;
/// The same, where nothing interrupted it: somebody looked at how a layer begins.
const LEAST_ABANDONED: u64 = 1 << 20;

/// What there is of a blob.
#[derive(Debug)]
pub(super) struct Partial {
    lock: Lock,
    path: PathBuf,
    /// Where all of it will be.
    target: PathBuf,
    /// Bytes that were there.
    had: u64,
}

impl Partial {
    /// What there is of a blob of `size` bytes that will be at `target`; nothing if somebody else is at it.
    pub(super) fn open(target: &Path, digest: &Digest, size: u64) -> Option<Self> {
        let directory = target.parent()?;
        // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
        DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
        let path = directory.join(format!("{UNFINISHED}{}", digest.hex()));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = open(&path, flags, Mode::from_raw_mode(0o644)).ok()?;
        let lock = Lock::take(file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let metadata = lock.file().metadata().ok()?;
        if !metadata.is_file() || !lock.is_at(CWD, &path).ok()? {
            return None;
        }
        let had = if metadata.len() <= size { metadata.len() } else { 0 };
        if had != metadata.len() {
            lock.file().set_len(0).ok()?;
        }
        Some(Self { lock, path, target: target.to_owned(), had })
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
        let Some(partial) = &self.partial else { return Ok(0) };
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
            partial.lock.file().sync_data()?;
            std::fs::rename(&partial.path, &partial.target)?;
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
