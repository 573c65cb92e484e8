//! Blobs by their digests, as an OCI layout has them: `blobs/sha256/<hex>`.
//!
//! A blob is written while it streams by, to whoever wants it, under a temporary name, and gets its own once it is
//! known to be what its digest says. What came of one that did not become whole waits for the next run. What is read
//! from here is checked like any other blob. If it turns out to be wrong, it is noted, and looked at before it is used
//! again. In a cache that is only read nothing can be noted: what is there is looked at before it is used, and fetched if it is wrong.

use std::fs::{DirBuilder, File};
use std::io::{Error, Read, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{open, share};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use tempfile::TempPath;

use super::lock::{Lock, Of};
use super::partial::{Leased, Partial, Wanted};
use super::waiting::Waiting;
use super::{NotKept, UNFINISHED};
use crate::blob::{Arriving, Blob, Remote};
use crate::core::digest::{Algorithm, Digest, Hasher};
use crate::fs::Durability;

/// What is looked at before it is used, and is no larger than this, nobody waits for.
const SMALL: u64 = 4 << 20;

/// The blobs of a cache.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    /// Those of a cache that is only read.
    lower: Option<PathBuf>,
    waiting: Waiting,
}

impl Blobs {
    /// Those of the cache in this directory, which need not be there yet.
    pub fn of(cache: &Path) -> Self {
        Self { directory: cache.join("blobs"), lower: None, waiting: Waiting::default() }
    }

    /// The same; those of another cache are taken from there if they are right, and never written.
    pub fn over(self, lower: Option<&Path>) -> Self {
        Self { lower: lower.map(|cache| cache.join("blobs")), ..self }
    }

    /// The same; who has to wait for a blob that another process fetches does it like this.
    pub fn waiting(self, waiting: Waiting) -> Self {
        Self { waiting, ..self }
    }

    /// The blob of a digest, if it is there. A large one of the other cache is only found by those that are to be [kept](Blobs::keeping): if it is
    /// damaged, it is not found out before it is read.
    pub fn find(&self, digest: &Digest) -> Option<Blob> {
        let kept = self.own(digest).or_else(|| self.lower(digest, |length| length <= SMALL))?;
        let path = kept.path.clone();
        Some(Blob::from_remote(Arc::new(kept)).known_as(&path))
    }

    /// A blob that is elsewhere, which is kept here once it has been read and is right.
    pub fn keeping(&self, digest: &Digest, remote: impl Remote + 'static) -> Blob {
        Blob::from_remote(Arc::new(Fetched { blobs: self.clone(), digest: digest.clone(), remote: Arc::new(remote) }))
    }

    /// Keeps a small blob that has come whole, if it is right.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if Blob::from_bytes(bytes).stated(Some(digest.clone()), None).check().is_err() {
            return Ok(());
        }
        let keep = || {
            let mut growing = self.begin(digest)?;
            growing.file.write_all(bytes)?;
            growing.publish()
        };
        keep().map_err(|error: Error| self.error(error))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        path(&self.directory, digest)
    }

    fn own(&self, digest: &Digest) -> Option<Kept> {
        let kept = Kept::at(Of::Own, self.path(digest))?;
        if kept.lock.is_suspect() && kept.check(digest, &self.waiting) != Some(true) {
            // It is fetched again, if nobody has put another one there meanwhile.
            if !self.waiting.is_cancelled() && kept.lock.is_at(&kept.path) {
                let _ = std::fs::remove_file(&kept.path);
            }
            return None;
        }
        kept.lock.touch();
        Some(kept)
    }

    /// One of the other cache, if it has such a length and is right.
    fn lower(&self, digest: &Digest, fits: impl Fn(u64) -> bool) -> Option<Kept> {
        let kept = Kept::at(Of::Lower, path(self.lower.as_ref()?, digest)).filter(|kept| fits(kept.length))?;
        match kept.check(digest, &self.waiting)? {
            true => Some(kept),
            false => {
                self.waiting.tell(format!("{:?} is damaged and is not used", kept.path));
                None
            }
        }
    }

    /// A file for a blob to be. Where the file system can, it has no name until it is whole, and so goes with its
    /// process, whatever becomes of that; elsewhere nobody removes it while it grows.
    fn begin(&self, digest: &Digest) -> Result<Growing> {
        let target = self.path(digest);
        let directory = target.parent().unwrap_or(&self.directory);
        // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = open(directory, flags, Mode::from_raw_mode(0o644)) {
            return Ok(Growing { file: file.into(), name: None, target });
        }
        let (file, name) = unfinished().tempfile_in(directory)?.into_parts();
        share(&file)?;
        Ok(Growing { file, name: Some(name), target })
    }

    pub(super) fn error(&self, error: Error) -> Error {
        Error::new(error.kind(), NotKept { directory: self.directory.clone(), error })
    }
}

fn path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(digest.algorithm().name()).join(digest.hex())
}

/// A blob that is here.
#[derive(Debug)]
struct Kept {
    lock: Arc<Lock>,
    length: u64,
    path: PathBuf,
}

impl Kept {
    fn at(of: Of, path: PathBuf) -> Option<Self> {
        let lock = Lock::shared_in(of, &path)?;
        let metadata = lock.file().metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(Self { length: metadata.len(), lock: Arc::new(lock), path })
    }

    fn reader(&self) -> KeptReader {
        KeptReader { lock: Arc::clone(&self.lock), at: 0, is_good: false }
    }

    /// Whether it has the bytes that its digest says; nothing if the work was cancelled.
    fn check(&self, digest: &Digest, waiting: &Waiting) -> Option<bool> {
        let found = hash(self.lock.file(), digest.algorithm(), &|| waiting.is_cancelled());
        (!waiting.is_cancelled()).then(|| found.is_ok_and(|found| found == *digest))
    }
}

impl Remote for Kept {
    fn len(&self) -> u64 {
        self.length
    }

    fn is_here(&self) -> bool {
        true
    }

    fn open(&self) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(self.reader()))
    }
}

/// Reads a blob that is here, and notes it if nobody finds it right.
struct KeptReader {
    lock: Arc<Lock>,
    at: u64,
    is_good: bool,
}

impl Read for KeptReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = crate::fs::read_at(self.lock.file(), buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Arriving for KeptReader {
    fn verified(mut self: Box<Self>) -> Result<()> {
        self.is_good = true;
        Ok(())
    }
}

impl Drop for KeptReader {
    fn drop(&mut self) {
        if self.at > 0 && !self.is_good {
            self.lock.suspect();
        }
    }
}

/// A blob that is elsewhere, and will be here.
#[derive(Debug)]
struct Fetched {
    blobs: Blobs,
    digest: Digest,
    remote: Arc<dyn Remote>,
}

impl Remote for Fetched {
    fn len(&self) -> u64 {
        self.remote.len()
    }

    fn open(&self) -> Result<Box<dyn Arriving>> {
        let size = self.remote.len();
        // Another layer or another process may have fetched it since, or be at it.
        let kept = || self.blobs.own(&self.digest).filter(|kept| kept.length == size);
        if let Some(kept) = kept().or_else(|| self.blobs.lower(&self.digest, |length| length == size)) {
            return Ok(Box::new(kept.reader()));
        }
        let path = self.blobs.path(&self.digest);
        let leased = match Partial::wait(&path, &self.digest, size, &self.blobs.waiting, kept) {
            Wanted::Whole(kept) => return Ok(Box::new(kept.reader())),
            Wanted::Mine(partial) => return Ok(partial.fetch(Arc::clone(&self.remote), &self.blobs)),
            Wanted::Leased(leased) => Some(leased),
            Wanted::Alone => None,
        };
        let stream = self.remote.open()?;
        let growing = self.blobs.begin(&self.digest).map_err(|error| self.blobs.error(error))?;
        Ok(Box::new(Keeping { stream, growing, blobs: self.blobs.clone(), leased }))
    }
}

/// A file that is not whole yet. It goes when this is dropped.
struct Growing {
    file: File,
    name: Option<TempPath>,
    target: PathBuf,
}

impl Growing {
    /// Publishes the verified blob under its digest, in the place of any that is there.
    fn publish(self) -> Result<()> {
        let name = match self.name {
            Some(name) => name,
            None => {
                let directory = self.target.parent().unwrap_or(&self.target);
                let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let link = |path: &Path| Ok(linkat(CWD, &itself, CWD, path, AtFlags::SYMLINK_FOLLOW)?);
                unfinished().make_in(directory, link)?.into_temp_path()
            }
        };
        Durability::Synced.sync(&self.file)?;
        name.persist(&self.target).map_err(|error| error.error)?;
        sync_directory_of(&self.target)
    }
}

/// Whether a file has the bytes that its digest says.
pub(super) fn is_right(path: &Path, digest: &str) -> bool {
    let (Ok(digest), Ok(file)) = (digest.parse::<Digest>(), File::open(path)) else { return false };
    hash(&file, digest.algorithm(), &|| false).is_ok_and(|found| found == digest)
}

/// The digest of all bytes of a file; of some, if the work is cancelled.
fn hash(file: &File, algorithm: Algorithm, is_cancelled: &dyn Fn() -> bool) -> Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        let count = crate::fs::read_at(file, &mut buffer, at)?;
        if count == 0 || is_cancelled() {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
}

/// A name that was given is there after a power loss, too (rule S6).
pub(super) fn sync_directory_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(directory) => Ok(Durability::Synced.sync(File::open(directory)?)?),
        None => Ok(()),
    }
}

fn unfinished() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    builder
}

/// Hands on what comes and writes it down.
struct Keeping {
    stream: Box<dyn Arriving>,
    growing: Growing,
    blobs: Blobs,
    leased: Option<Leased>,
}

impl Read for Keeping {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.stream.read(buffer)?;
        self.growing.file.write_all(&buffer[..count]).map_err(|error| self.blobs.error(error))?;
        self.leased.as_mut().map(Leased::beat);
        Ok(count)
    }
}

impl Arriving for Keeping {
    fn verified(self: Box<Self>) -> Result<()> {
        // The lease ends when the blob is there.
        let Self { stream, growing, blobs, leased } = *self;
        stream.verified()?;
        let _leased = leased.map(Leased::beating);
        growing.publish().map_err(|error| blobs.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobError;

    /// Bytes from elsewhere.
    #[derive(Debug, Clone)]
    struct Elsewhere(Arc<[u8]>);

    struct Stream(std::io::Cursor<Arc<[u8]>>);

    impl Remote for Elsewhere {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn open(&self) -> Result<Box<dyn Arriving>> {
            Ok(Box::new(Stream(std::io::Cursor::new(Arc::clone(&self.0)))))
        }
    }

    impl Read for Stream {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Arriving for Stream {
        fn verified(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    fn read(blob: Blob, digest: &Digest) -> std::result::Result<Vec<u8>, BlobError> {
        blob.stated(Some(digest.clone()), None).read_all(1 << 20)
    }

    #[test]
    fn s3_what_is_right_is_kept_and_what_is_wrong_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(place.path());
        let digest = Digest::sha256_of(b"content");
        assert!(read(blobs.keeping(&digest, Elsewhere(b"CONTENT"[..].into())), &digest).is_err());
        assert!(blobs.find(&digest).is_none());
        assert_eq!(std::fs::read_dir(place.path().join("blobs/sha256")).unwrap().count(), 0);

        // Two at once both end well.
        let elsewhere = Elsewhere(b"content"[..].into());
        let both: Vec<Blob> = (0..2).map(|_| blobs.keeping(&digest, elsewhere.clone())).collect();
        let mut readers: Vec<_> = both.iter().map(Blob::reader).collect();
        for reader in &mut readers {
            std::io::copy(reader, &mut std::io::sink()).unwrap();
        }
        for reader in readers {
            reader.verified().unwrap();
        }
        assert_eq!(read(blobs.find(&digest).unwrap(), &digest).unwrap(), b"content");
    }

    #[test]
    fn s3_what_went_bad_is_found_out_and_fetched_again() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(place.path());
        let digest = Digest::sha256_of(b"content");
        let elsewhere = Elsewhere(b"content"[..].into());
        read(blobs.keeping(&digest, elsewhere.clone()), &digest).unwrap();
        std::fs::write(blobs.path(&digest), b"CONTENT").unwrap();
        assert!(read(blobs.find(&digest).unwrap(), &digest).is_err());
        assert!(blobs.find(&digest).is_none());
        assert_eq!(read(blobs.keeping(&digest, elsewhere), &digest).unwrap(), b"content");
        // What was read in part may be right all the same.
        blobs.find(&digest).unwrap().reader().read_exact(&mut [0; 2]).unwrap();
        assert_eq!(read(blobs.find(&digest).unwrap(), &digest).unwrap(), b"content");
    }
}
