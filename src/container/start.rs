//! The process outside: makes the namespaces, starts the first process in them, and hands signals to it.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::MemfdFlags;

use super::{Container, ContainerError, Network};

/// Where the first process finds what it needs, in the process that starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handles {
    /// That process.
    pub process: u32,
    /// Its handle of what is to be run.
    pub container: i32,
    /// Its handle of a pipe for signals, a byte each. It ends with the process.
    pub signals: i32,
}

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    signals: PipeWriter,
    /// The first process opens them here.
    _handles: (OwnedFd, PipeReader),
}

/// Starts a container. `program` is the command by which the first process calls [`init`](super::init), once it has got these
/// handles as arguments.
///
/// To be called in a mount namespace of the caller's own, and where the caller is not root in a user namespace. Afterwards the process can start no threads.
///
/// # Errors
/// A kernel that refuses namespaces, a program that cannot be started.
pub fn start(container: &Container, program: impl FnOnce(Handles) -> Command) -> Result<Running, ContainerError> {
    let failed = ContainerError::Start;
    let described = rustix::fs::memfd_create("container", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut file = File::from(described);
    serde_json::to_writer(&mut file, container).map_err(|error| failed(error.into()))?;
    file.flush().map_err(failed)?;
    let described = OwnedFd::from(file);
    let (reader, signals) = io::pipe().map_err(failed)?;
    let handles =
        Handles { process: std::process::id(), container: described.as_raw_fd(), signals: reader.as_raw_fd() };

    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if container.network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|errno| ContainerError::Namespaces(errno.into()))?;
    let child = program(handles).spawn().map_err(failed)?;
    Ok(Running { child, signals, _handles: (described, reader) })
}

impl Running {
    /// Sends a signal to the program.
    pub fn signal(&mut self, signal: u8) {
        // Where nobody reads any more, there is nobody to get it.
        let _ = self.signals.write_all(&[signal]);
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// It is not a child any more.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}
