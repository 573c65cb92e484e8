//! What waits for a disk, done by a process of its own.
//!
//! A process that waits for a disk cannot die before the disk answers, not even of SIGKILL, and all its threads with it. So a program that wants to
//! end soon after a signal has another process wait, which may be left waiting: for syncing, and, once the signal has come, for removing what
//! is unfinished, whose blocks may be on their way to the disk.

use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::io::{Errno, Result};

use super::{aside, sync};

/// What is done. Its file is standard input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    SyncFileSystem,
    SyncFile,
    /// Removes a work directory; standard error is the directory that it is in, and the first argument its name there.
    Remove,
}

#[derive(Debug)]
struct Elsewhere {
    program: fn() -> Command,
    is_ending: Arc<AtomicBool>,
}

static ELSEWHERE: OnceLock<Elsewhere> = OnceLock::new();

/// Has a program do it, which is started by this command under another name (`argv[0]`), by which [`asked_to_wait`] knows what to do. `is_ending` tells
/// that a signal has come.
pub fn wait_elsewhere(program: fn() -> Command, is_ending: Arc<AtomicBool>) {
    let _ = ELSEWHERE.set(Elsewhere { program, is_ending });
}

/// What [`wait_elsewhere`] starts: to be called first in `main`. If that is what this process is for it does it, and this is the answer, which goes
/// to standard output.
pub fn asked_to_wait() -> Option<String> {
    let name = std::env::args_os().next()?;
    let task = [Task::SyncFileSystem, Task::SyncFile, Task::Remove].into_iter().find(|task| name == task.name())?;
    Some(task.done().err().map_or(0, Errno::raw_os_error).to_string())
}

/// Whether a signal has come.
pub(super) fn is_ending() -> bool {
    ELSEWHERE.get().is_some_and(|elsewhere| elsewhere.is_ending.load(Ordering::Relaxed))
}

/// Removes a work directory, if the program is ending; nothing if it cannot be done so.
pub(super) fn remove(parent: impl AsFd, name: &CStr, directory: impl AsFd) -> Option<Result<()>> {
    let mut program = (ELSEWHERE.get().filter(|_| is_ending())?.program)();
    program.arg(OsStr::from_bytes(name.to_bytes())).stderr(parent.as_fd().try_clone_to_owned().ok()?);
    ask(Task::Remove, program, directory.as_fd().try_clone_to_owned().ok()?)
}

/// Syncs what is open; nothing if it cannot be done so. The other process has the same open file (open(2)), so that errors of writing since that
/// was opened are told.
pub(super) fn sync(task: Task, file: impl AsFd) -> Option<Result<()>> {
    let mut program = (ELSEWHERE.get()?.program)();
    program.stderr(Stdio::null());
    ask(task, program, file.as_fd().try_clone_to_owned().ok()?)
}

/// What the process answers; nothing, if there can be none, or it does not come to that.
fn ask(task: Task, mut program: Command, file: OwnedFd) -> Option<Result<()>> {
    // Ctrl-C is for us alone.
    program.arg0(task.name()).process_group(0).stdin(file).stdout(Stdio::piped());
    let mut child = program.spawn().ok()?;
    let mut answer = String::new();
    let heard = child.stdout.take()?.read_to_string(&mut answer);
    child.wait().ok()?;
    heard.ok()?;
    match answer.trim().parse().ok()? {
        0 => Some(Ok(())),
        error => Some(Err(Errno::from_raw_os_error(error))),
    }
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::SyncFileSystem => "layflat-syncfs",
            Self::SyncFile => "layflat-fsync",
            Self::Remove => "layflat-remove",
        }
    }

    fn done(self) -> Result<()> {
        let file = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        match self {
            Self::SyncFileSystem => sync::file_system(file),
            Self::SyncFile => sync::file(file),
            Self::Remove => {
                let parent = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
                let name = std::env::args_os().nth(1).ok_or(Errno::INVAL)?;
                aside::remove_given(&parent, name.as_bytes(), file)
            }
        }
    }
}
