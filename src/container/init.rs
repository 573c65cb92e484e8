//! Process 1 of the container.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions, chdir, kill_process, set_parent_process_death_signal, wait};

use super::mounts::{Prepared, enter};
use super::privileges::give_up;
use super::{Container, ContainerError, Handles};
use crate::bundle::{Confinement, Process, process_of};
use crate::image::Config;
use crate::userns::in_user_namespace;

/// How the container's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The status that whoever ran it ends with: the program's own, or 128 and the signal that ended it.
    pub status: u8,
}

/// Runs a container as its first process, from what [`start`](super::start) has left at these handles.
///
/// # Errors
/// Everything that keeps the program from being run. `note` hears of what is left out.
pub fn init(handles: Handles, note: &dyn Fn(&str)) -> Result<Ended, ContainerError> {
    close_inherited().map_err(ContainerError::Start)?;
    let open =
        |handle: i32| File::open(format!("/proc/{}/fd/{handle}", handles.process)).map_err(ContainerError::Start);
    let signals = open(handles.signals)?;
    let mut described = Vec::new();
    open(handles.container)?.read_to_end(&mut described).map_err(ContainerError::Start)?;
    let container: Container =
        serde_json::from_slice(&described).map_err(|error| ContainerError::Start(error.into()))?;

    let config = container.config.clone().map(|text| Config::parse(text.into_bytes())).transpose()?;
    let prepared = Prepared::mount(&container)?;
    let confinement = if in_user_namespace() { Confinement::Inside } else { Confinement::Root };
    let process = process_of(config.as_ref(), prepared.root()?, &container.overrides, confinement)?;
    for left_out in &process.left_out {
        note(&format!("left out {left_out}"));
    }
    enter(prepared, &process, &container)?;
    run(&process, signals, note)
}

/// Closes what was open already, but for the standard handles: whatever the caller left open to us would lead out of the container
/// (CVE-2024-21626).
fn close_inherited() -> std::io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for handle in open.into_iter().filter(|&handle| handle > 2) {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(handle);
    }
    Ok(())
}

fn run(process: &Process, signals: File, note: &dyn Fn(&str)) -> Result<Ended, ContainerError> {
    let failed = |error| ContainerError::Program { program: process.args[0].clone(), error };
    chdir(&*process.cwd).map_err(|errno| ContainerError::Part {
        what: format!("the working directory {:?}", process.cwd),
        error: errno.into(),
    })?;
    give_up(process, note)?;
    // Ends with whoever started us, also where that was killed.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| ContainerError::Start(errno.into()))?;
    let variables = process.env.iter().filter_map(|line| line.split_once('='));
    let child = Command::new(&process.args[0]).args(&process.args[1..]).env_clear().envs(variables).spawn();
    let child = Pid::from_child(&child.map_err(failed)?);
    std::thread::spawn(move || pass_on(signals, child));
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let status = ExitStatus::from_raw(status.as_raw());
                return Ok(Ended { status: status_of(status) });
            }
            // Somebody whose parent has gone.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// What a shell would make of it.
pub(super) fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(125);
    u8::try_from(code).unwrap_or(125)
}

/// Sends the signals that come from outside to the program, and kills it when nobody is there any more.
fn pass_on(mut signals: File, child: Pid) {
    let mut byte = [0];
    loop {
        let signal = match signals.read(&mut byte) {
            Ok(0) => Some(Signal::KILL),
            Ok(_) => Signal::from_named_raw(i32::from(byte[0])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => Some(Signal::KILL),
        };
        let Some(signal) = signal else { continue };
        // It may have ended already.
        let _ = kill_process(child, signal);
        if signal == Signal::KILL {
            return;
        }
    }
}
