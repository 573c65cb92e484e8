//! Copies archives that cannot be read in random order (from a pipe, or compressed as a whole) to an unnamed temporary
//! file.

use std::fs::File;
use std::io::{BufReader, Cursor, Error, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::blob::{Compression, Decompressor, plainly};
use crate::core::cancel::Cancel;
use crate::transport::source::{OpenOptions, SourceError, is_compressed, open_regular};

const CHUNK: usize = 256 << 10;

/// A file that holds the archive uncompressed, and its length. `-` is standard input.
pub(in crate::transport) fn seekable(path: &Path, options: &OpenOptions) -> Result<(File, u64), SourceError> {
    let io = |error| SourceError::Io { path: path.to_owned(), error };
    if let Some(spooled) = stream(path, options)? {
        return Ok(spooled);
    }
    match open_regular(path) {
        Ok((mut file, length)) => {
            let start = start(&mut file).map_err(io)?;
            if !is_compressed(&start) {
                return Ok((file, length));
            }
            file.rewind().map_err(io)?;
            spool(path, file, options)
        }
        Err(error) => Err(error),
    }
}

/// The same of what can only be read once, standard input and named pipes; nothing of anything else.
pub(in crate::transport) fn stream(path: &Path, options: &OpenOptions) -> Result<Option<(File, u64)>, SourceError> {
    let cancel = &options.cancel;
    if path == Path::new("-") {
        let input = std::io::stdin();
        return spool(path, Polled { input: input.as_fd(), cancel }, options).map(Some);
    }
    // A named pipe, as a shell's <(…) makes it. It is opened once: whoever opens it only to look at it and closes it
    // again takes what its writer has written, and the writer with it.
    if is_fifo(path) {
        let file = File::open(path).map_err(|error| SourceError::Io { path: path.to_owned(), error })?;
        return spool(path, Polled { input: file.as_fd(), cancel }, options).map(Some);
    }
    Ok(None)
}

/// As many bytes as it takes to recognise a compression; a pipe may hand them out one by one.
fn start(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(Compression::START);
    input.take(Compression::START as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// A file that holds what comes uncompressed, and its length.
pub(in crate::transport) fn spool(
    path: &Path,
    mut input: impl Read,
    options: &OpenOptions,
) -> Result<(File, u64), SourceError> {
    let cancel = &options.cancel;
    let of_input = |error| {
        if cancel.is_cancelled() { SourceError::Cancelled } else { SourceError::Io { path: path.to_owned(), error } }
    };
    let of_spool = |error| SourceError::Io { path: std::env::temp_dir(), error };
    let start = start(&mut input).map_err(of_input)?;
    let input = Cursor::new(start).chain(input);
    let mut stream = Decompressor::new(BufReader::with_capacity(CHUNK, input)).map_err(of_input)?;
    let compression = stream.compression();
    let damaged = |error: Error| match compression {
        Compression::None => of_input(error),
        _ if cancel.is_cancelled() => SourceError::Cancelled,
        _ => SourceError::Damaged { path: path.to_owned(), compression, error: plainly(error) },
    };
    let mut spooled = tempfile::tempfile().map_err(of_spool)?;
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        spooled.write_all(&buffer[..count]).map_err(of_spool)?;
        length += count as u64;
        if options.limits.is_bomb(length, stream.stored()) {
            return Err(SourceError::Ratio { path: path.to_owned(), limit: options.limits.ratio });
        }
    }
    Ok((spooled, length))
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
                Ok(_) => return Ok(rustix::io::retry_on_intr(|| rustix::io::read(self.input, &mut *buffer))?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, as a slow pipe does.
    struct Drops(Cursor<Vec<u8>>);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn a_compression_is_recognised_however_the_bytes_come() {
        let stored = zstd::encode_all(&b"content"[..], 1).unwrap();
        for (bytes, expected) in [(stored, &b"content"[..]), (b"BZ".to_vec(), b"BZ"), (Vec::new(), b"")] {
            let input = Drops(Cursor::new(bytes));
            let (mut file, length) = spool(Path::new("-"), input, &OpenOptions::default()).unwrap();
            let mut found = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut found).unwrap();
            assert_eq!((found.as_slice(), length), (expected, expected.len() as u64));
        }
    }
}
