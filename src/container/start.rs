//! The process outside: makes the namespaces, starts the first process in them, and hands signals to it.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

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

/// What the first process needs to know of our environment: where to look for programs, and how to print.
const HEEDED: [&str; 3] = ["PATH", "TERM", "NO_COLOR"];

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    signals: PipeWriter,
    /// The first process opens them here.
    _handles: (OwnedFd, PipeReader),
}

/// Starts a container. `arguments` are those by which this program calls [`init`](super::init) with these handles: the first process
/// is a copy of the running program in memory. Its file on the disk would be within the reach of the container's root, by `/proc/1/exe`, who could give it
/// other owners and modes, or wait for its end and write to it (CVE-2019-5736). Nor does it have our environment, which everybody in the container can read.
///
/// To be called in a mount namespace of the caller's own, and where the caller is not root in a user namespace. Afterwards the process can start no threads.
///
/// # Errors
/// A kernel that refuses namespaces, a program that cannot be started.
pub fn start(container: &Container, arguments: impl FnOnce(Handles) -> Vec<String>) -> Result<Running, ContainerError> {
    let failed = ContainerError::Start;
    let described = memfd_create("container", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut file = File::from(described);
    serde_json::to_writer(&mut file, container).map_err(|error| failed(error.into()))?;
    file.flush().map_err(failed)?;
    let described = OwnedFd::from(file);
    let (reader, signals) = io::pipe().map_err(failed)?;
    let handles =
        Handles { process: std::process::id(), container: described.as_raw_fd(), signals: reader.as_raw_fd() };

    let program = copy_of_this_program().map_err(failed)?;
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if container.network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|errno| ContainerError::Namespaces(errno.into()))?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("layflat").args(arguments(handles)).env_clear();
    for name in HEEDED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command.spawn().map_err(failed)?;
    Ok(Running { child, signals, _handles: (described, reader) })
}

/// The running program, in memory, where nobody can change it.
fn copy_of_this_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match memfd_create("layflat", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 all can be run.
        Err(Errno::INVAL) => memfd_create("layflat", flags)?,
        made => made?,
    };
    let mut copy = File::from(copy);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
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
