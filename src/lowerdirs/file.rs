//! A file as it was made, and whether it still is that (rules S8 and C4).
//!
//! A file is recognised by its stat data, of which no program can set the time of the last change: whatever was written, renamed over or given away
//! through the file system is noticed, without reading. A copy is another file, and so is one that got another name; what it holds is then
//! compared with what fs-verity calls its digest.

use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::verity::{self, Measuring, SPAN, Span};
use crate::parallel::{self, Thread};

/// What is hashed without asking whether to stop: 4 MiB.
const SPANS_AT_ONCE: u64 = 8;

/// By what a file is recognised without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Its bytes.
    pub size: u64,
    /// The device that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was last written to: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// When it was last changed in any way: seconds and nanoseconds.
    pub ctime: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// As of stat(2).
    pub fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether it is that of the same file, on whatever device: each node that mounts a shared file system has a number of its own for it, and a
    /// machine may have another one after it was started again.
    fn is_as(&self, other: &Self) -> bool {
        Self { device: other.device, ..*self } == *other
    }
}

/// A file as it was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileSeal {
    /// By what it is recognised.
    pub stamp: Stamp,
    /// What fs-verity calls its digest; none of an archive in place, which is checked layer by layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Digest>,
}

/// How files are checked.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// Whether every byte is read, even of files that are recognised.
    pub every_byte: bool,
    /// Set from elsewhere to stop early.
    pub cancel: Cancel,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is the file that it was.
    Same,
    /// It is another one, or was touched, and has the same bytes. By this it is recognised from now on.
    Renewed(Stamp),
    /// It has other bytes.
    Changed,
}

impl FileSeal {
    /// Of a file that is read for that.
    ///
    /// # Errors
    /// It cannot be read, or the work was cancelled.
    pub(crate) fn of(file: &File, cancel: &Cancel) -> Result<Self> {
        let stamp = Stamp::of(file)?;
        Ok(Self { stamp, verity: Some(measure(file, stamp.size, cancel)?) })
    }

    /// Whether a file still is what it was. One that is not recognised is read; an archive in place has changed then.
    ///
    /// # Errors
    /// It cannot be read, or the check was cancelled.
    pub(crate) fn check(&self, file: &File, check: &Check) -> Result<Checked> {
        let now = Stamp::of(file)?;
        let Some(verity) = &self.verity else {
            return Ok(if now == self.stamp { Checked::Same } else { Checked::Changed });
        };
        let is_recognised = now.is_as(&self.stamp);
        if is_recognised && !check.every_byte {
            return Ok(Checked::Same);
        }
        let is_same = now.size == self.stamp.size
            && measure(file, now.size, &check.cancel)? == *verity
            // And nobody wrote to it meanwhile.
            && Stamp::of(file)? == now;
        Ok(match (is_same, is_recognised) {
            (false, _) => Checked::Changed,
            (true, true) => Checked::Same,
            (true, false) => Checked::Renewed(now),
        })
    }

    /// The seal that a file of its own holds.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// As it is written to disk.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// What fs-verity calls the digest of a file, read by as many threads as there are processors.
fn measure(file: &File, size: u64, cancel: &Cancel) -> Result<Digest> {
    let spans = size.div_ceil(SPAN as u64).max(1);
    let groups: Vec<usize> = (0..spans.div_ceil(SPANS_AT_ONCE) as usize).collect();
    let stop = AtomicBool::new(false);
    let measured = parallel::each(&groups, parallel::jobs(None, 0).get(), &stop, &|group| {
        let first = group as u64 * SPANS_AT_ONCE;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(SPAN).min(SPAN)];
        let span = |number: u64| {
            let at = number * SPAN as u64;
            let length = (size - at).min(SPAN as u64) as usize;
            file.read_exact_at(&mut buffer[..length], at)?;
            Ok(Span::of(&buffer[..length], spans == 1))
        };
        let measured: Result<Vec<Span>> = (first..spans.min(first + SPANS_AT_ONCE)).map(span).collect();
        if cancel.is_cancelled() || measured.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        measured
    });
    let interrupted = || Error::from(ErrorKind::Interrupted);
    let measured = parallel::all(measured, interrupted, |error| error.kind() == ErrorKind::Interrupted)?;
    if cancel.is_cancelled() { Err(interrupted()) } else { Ok(verity::digest(&measured.concat())) }
}

/// A file that is measured while it is written, from a buffer of its own.
#[derive(Debug)]
pub(crate) struct MeasuredFile {
    file: File,
    buffer: Vec<u8>,
    by: Measurer,
}

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// Buffers between the thread that writes and the one that measures.
const BEHIND: usize = 3;

#[derive(Debug)]
enum Measurer {
    /// The thread that writes.
    Writer(Measuring),
    /// A thread of its own, a few buffers behind.
    Follower { written: Sender<Vec<u8>>, measured: Receiver<Vec<u8>>, digest: Thread<Digest> },
}

impl MeasuredFile {
    /// Of a file that is empty.
    pub(crate) fn new(file: File) -> Self {
        Self { file, buffer: Vec::with_capacity(BUFFER), by: Measurer::Writer(Measuring::default()) }
    }

    /// The same, measured by a thread of its own if there can be one.
    pub(crate) fn measured_behind(file: File) -> Self {
        let (written, to_measure) = bounded::<Vec<u8>>(BEHIND);
        let (done, measured) = bounded(BEHIND + 2);
        let follow = move || {
            let mut measuring = Measuring::default();
            for mut buffer in to_measure {
                measuring.update(&buffer);
                buffer.clear();
                // There is room for all: those between the threads, and one at each.
                let _ = done.send(buffer);
            }
            measuring.finish()
        };
        match parallel::spawn(follow) {
            Ok(digest) => Self { by: Measurer::Follower { written, measured, digest }, ..Self::new(file) },
            Err(_) => Self::new(file),
        }
    }

    /// The file, and what it is now that nothing more is written.
    ///
    /// # Errors
    /// As of write(2) and stat(2).
    pub(crate) fn finish(mut self) -> Result<(File, FileSeal)> {
        self.write_buffer()?;
        let stamp = Stamp::of(&self.file)?;
        let verity = match self.by {
            Measurer::Writer(measuring) => measuring.finish(),
            Measurer::Follower { written, digest, .. } => {
                drop(written);
                digest.join().ok_or_else(|| Error::other("what was written was not measured"))?
            }
        };
        Ok((self.file, FileSeal { stamp, verity: Some(verity) }))
    }

    fn write_buffer(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer)?;
        match &mut self.by {
            Measurer::Writer(measuring) => {
                measuring.update(&self.buffer);
                self.buffer.clear();
            }
            Measurer::Follower { written, measured, .. } => {
                let next = measured.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
                let full = std::mem::replace(&mut self.buffer, next);
                written.send(full).map_err(|_| Error::other("what was written was not measured"))?;
            }
        }
        Ok(())
    }
}

impl Write for MeasuredFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.buffer.len() == BUFFER {
            self.write_buffer()?;
        }
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        self.write_buffer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (File, FileSeal) {
        written(MeasuredFile::new(tempfile::tempfile().unwrap()), bytes)
    }

    fn written(mut file: MeasuredFile, bytes: &[u8]) -> (File, FileSeal) {
        bytes.chunks(100_003).for_each(|piece| file.write_all(piece).unwrap());
        file.finish().unwrap()
    }

    #[test]
    fn c4_what_was_written_is_measured_as_what_is_read() {
        for length in [0, 1, 4096, 4097, SPAN, SPAN * 20 + 77] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 9) as u8).collect();
            let (behind, seal) = written(MeasuredFile::measured_behind(tempfile::tempfile().unwrap()), &bytes);
            assert_eq!(FileSeal::of(&behind, &Cancel::default()).unwrap(), seal, "{length}");
            let (file, seal) = file(&bytes);
            assert_eq!(FileSeal::of(&file, &Cancel::default()).unwrap(), seal, "{length}");
            let every_byte = Check { every_byte: true, ..Check::default() };
            assert_eq!(seal.check(&file, &every_byte).unwrap(), Checked::Same, "{length}");
        }
    }

    /// Sets its time until the kernel's clock, which ticks every few milliseconds, has gone on: then it is known that it was touched.
    fn touch(file: &File, modified: std::time::SystemTime) {
        let before = Stamp::of(file).unwrap();
        while Stamp::of(file).unwrap() == before {
            file.set_modified(modified).unwrap();
        }
    }

    #[test]
    fn c4_other_bytes_are_noticed_even_if_the_times_are_put_back() {
        let bytes = vec![7; SPAN * 3];
        let (file, seal) = file(&bytes);
        let check = || seal.check(&file, &Check::default()).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        assert_eq!(check(), Checked::Same);
        // With the same bytes.
        touch(&file, written);
        assert!(matches!(check(), Checked::Renewed(stamp) if stamp == Stamp::of(&file).unwrap()));
        file.write_all_at(&[8], SPAN as u64 + 5).unwrap();
        file.set_modified(written).unwrap();
        assert_eq!(check(), Checked::Changed);
        file.write_all_at(&[7], SPAN as u64 + 5).unwrap();
        assert!(matches!(check(), Checked::Renewed(_)));
        file.set_len(SPAN as u64).unwrap();
        assert_eq!(check(), Checked::Changed);
        // What was never measured is only recognised.
        let archive = FileSeal { stamp: Stamp::of(&file).unwrap(), verity: None };
        assert_eq!(archive.check(&file, &Check::default()).unwrap(), Checked::Same);
        touch(&file, written);
        assert_eq!(archive.check(&file, &Check::default()).unwrap(), Checked::Changed);
    }

    #[test]
    fn c4_a_file_is_recognised_on_every_node_that_mounts_its_file_system() {
        let (file, seal) = file(b"content");
        let device = seal.stamp.device + 1;
        let elsewhere = FileSeal { stamp: Stamp { device, ..seal.stamp }, ..seal.clone() };
        assert_eq!(elsewhere.check(&file, &Check::default()).unwrap(), Checked::Same);
        // An archive in place has nothing to be compared with.
        let archive = FileSeal { verity: None, ..elsewhere };
        assert_eq!(archive.check(&file, &Check::default()).unwrap(), Checked::Changed);
    }

    #[test]
    fn s11_a_check_that_is_cancelled_ends() {
        let (file, seal) = file(&vec![7; SPAN * 30]);
        let check = Check { every_byte: true, ..Check::default() };
        check.cancel.cancel();
        assert_eq!(seal.check(&file, &check).unwrap_err().kind(), ErrorKind::Interrupted);
    }
}
