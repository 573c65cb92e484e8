//! System calls that are made again when a signal interrupts them.
//!
//! Our handlers ask the kernel to do this itself (SA_RESTART), but network file systems and FUSE end a call with EINTR all the same, and so
//! does a stop and continue of the process for some calls (signal(7)). What `std` does for its own calls is done here for those of rustix.
//! `close` is never made again: on Linux the handle is gone (close(2)).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Result, retry_on_intr};
use rustix::path::Arg;

/// openat(2)
pub(crate) fn openat(parent: impl AsFd, name: impl Arg + Copy, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(&parent, name, flags, mode))
}

/// open(2)
pub(crate) fn open(path: impl Arg + Copy, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    openat(CWD, path, flags, mode)
}

/// openat2(2)
pub(crate) fn openat2(
    parent: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat2(&parent, name, flags, mode, resolve))
}

/// The entries of a directory, by an openat(2) of its own.
pub(crate) fn entries(directory: impl AsFd) -> Result<Dir> {
    retry_on_intr(|| Dir::read_from(&directory))
}

/// flock(2)
pub(crate) fn flock(file: impl AsFd, operation: FlockOperation) -> Result<()> {
    retry_on_intr(|| rustix::fs::flock(&file, operation))
}

/// pread(2)
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
