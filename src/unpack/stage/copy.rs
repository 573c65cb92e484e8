//! Copies a file's content within one file system: with shared blocks where possible, and always with holes preserved.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

use crate::core::cancel::Cancel;

/// Bytes that are copied at once: how soon a signal is noticed.
const PIECE: usize = 64 << 20;

/// Lets the empty file `to` have the blocks of `from`, which takes no room; `false` where the file system cannot do it.
pub(crate) fn share_content(from: impl AsFd, to: impl AsFd) -> bool {
    rustix::fs::ioctl_ficlone(&to, &from).is_ok()
}

/// Copies all of `from`, `size` bytes, to the empty file `to`.
///
/// # Errors
/// `CANCELED`, if the work is cancelled meanwhile.
pub(crate) fn copy_content(from: impl AsFd, to: impl AsFd, size: u64, cancel: &Cancel) -> Result<()> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(&from, SeekFrom::Hole(data))?;
        copy_range(&from, &to, data, end, cancel)?;
        at = end;
    }
    rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&to, size))
}

fn copy_range(from: impl AsFd, to: impl AsFd, start: u64, end: u64, cancel: &Cancel) -> Result<()> {
    let mut buffer = Vec::new();
    let (mut input, mut output) = (start, start);
    while input < end {
        if cancel.is_cancelled() {
            return Err(Errno::CANCELED);
        }
        let length = usize::try_from(end - input).unwrap_or(usize::MAX).min(PIECE);
        if buffer.is_empty() {
            match rustix::fs::copy_file_range(&from, Some(&mut input), &to, Some(&mut output), length) {
                Ok(0) => return Err(Errno::IO),
                Ok(_) | Err(Errno::INTR) => continue,
                // Not on this file system or kernel: by hand.
                Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => buffer.resize(256 << 10, 0),
                Err(error) => return Err(error),
            }
        }
        let length = length.min(buffer.len());
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(&from, &mut buffer[..length], input))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::retry_on_intr(|| {
                rustix::io::pwrite(&to, &buffer[written..count], output + written as u64)
            })?;
        }
        input += count as u64;
        output += count as u64;
    }
    Ok(())
}
