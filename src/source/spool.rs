//! Archives that cannot be read in any order: what comes through a pipe, or compressed as a whole, is put into a temporary
//! file without a name first.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{SourceError, is_compressed, open_regular};
use crate::blob::Decompressor;
use crate::options::Cancel;

const CHUNK: usize = 256 << 10;

/// A file that holds the archive uncompressed, and its length. `-` is standard input.
pub(super) fn seekable(path: &Path, cancel: &Cancel) -> Result<(File, u64), SourceError> {
    if path == Path::new("-") {
        let input = std::io::stdin();
        return spool(path, Polled { input: input.as_fd(), cancel }, cancel);
    }
    match open_regular(path) {
        Ok((file, length)) => {
            let mut start = [0; 10];
            let read = std::os::unix::fs::FileExt::read_at(&file, &mut start, 0);
            let count = read.map_err(|error| SourceError::Io { path: path.to_owned(), error })?;
            if is_compressed(&start[..count]) { spool(path, file, cancel) } else { Ok((file, length)) }
        }
        // A named pipe, as a shell's <(…) makes it.
        Err(SourceError::NotAFile(_)) if is_fifo(path) => {
            let file = File::open(path).map_err(|error| SourceError::Io { path: path.to_owned(), error })?;
            spool(path, Polled { input: file.as_fd(), cancel }, cancel)
        }
        Err(error) => Err(error),
    }
}

fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

fn spool(path: &Path, input: impl Read, cancel: &Cancel) -> Result<(File, u64), SourceError> {
    let io = |error| {
        if cancel.is_cancelled() { SourceError::Cancelled } else { SourceError::Io { path: path.to_owned(), error } }
    };
    let buffered = BufReader::with_capacity(CHUNK, input);
    let (mut stream, _) = Decompressor::new(buffered).map_err(io)?;
    let mut spooled = tempfile::tempfile().map_err(|error| SourceError::Io { path: std::env::temp_dir(), error })?;
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok((spooled, length)),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io(error)),
        };
        let written = spooled.write_all(&buffer[..count]);
        written.map_err(|error| SourceError::Io { path: std::env::temp_dir(), error })?;
        length += count as u64;
    }
}

/// Reads what may never come, and looks up now and then whether it is still wanted.
struct Polled<'a> {
    input: BorrowedFd<'a>,
    cancel: &'a Cancel,
}

impl Read for Polled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if self.cancel.is_cancelled() {
                return Err(std::io::Error::other("cancelled"));
            }
            let mut ready = [PollFd::new(&self.input, PollFlags::IN)];
            match poll(&mut ready, Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(self.input, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
