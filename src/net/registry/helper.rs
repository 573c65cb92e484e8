//! Runs credential helpers (docker/docker-credential-helpers).

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use super::credentials::{Credentials, member, misfit};
use crate::core::cancel::Cancel;
use crate::fs::{hold, is_on_path};

/// The user name under which helpers store identity tokens.
const TOKEN: &str = "<token>";
/// What helpers say who have nothing.
const NOT_FOUND: &str = "credentials not found";
/// So long one is waited for: it may ask somebody to unlock a key ring, or wait for ever for one that is not there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon its end is noticed.
const LOOK_UP: Duration = Duration::from_millis(10);
/// As much of its answer as is read.
const MOST_ANSWER: u64 = 1 << 20;

/// Asks a helper, `docker-credential-NAME`, for a host's credentials; none if it has none. It is ended if the work is cancelled.
pub(super) fn ask(helper: &str, host: &str, cancel: &Cancel) -> Result<Option<Credentials>, String> {
    if helper.contains('/') {
        return Err("is not a program's name".to_owned());
    }
    let mut command = Command::new(format!("docker-credential-{helper}"));
    command.arg("get");
    let (status, output, errors) = run(command, host, PATIENCE, cancel)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&[output, errors].concat()).trim().to_owned();
        return if said.contains(NOT_FOUND) { Ok(None) } else { Err(format!("fails: {said}")) };
    }
    let answer: Value = serde_json::from_slice(&output)
        .map_err(|error| format!("answers something other than credentials: {}", misfit(&error)))?;
    let text = |name: &str| member(&answer, name).and_then(Value::as_str);
    let (Some(username), Some(secret)) = (text("Username"), text("Secret")) else {
        return Err("answers without a Username and a Secret".to_owned());
    };
    Ok(match username {
        // Some have nothing, and say so with nothing.
        "" if secret.is_empty() => None,
        TOKEN => Some(Credentials::IdentityToken(secret.to_owned())),
        _ => Some(Credentials::Password { username: username.to_owned(), password: secret.to_owned() }),
    })
}

/// Runs a program with something to read, and gets what it writes to standard output and to standard error. That goes
/// into memory and not through pipes, whose ends a program that it leaves behind may hold open.
fn run(
    mut command: Command,
    input: &str,
    patience: Duration,
    cancel: &Cancel,
) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
    let unable = |error: std::io::Error| format!("cannot be started: {error}");
    let memory = || memfd_create("layflat", MemfdFlags::CLOEXEC).map(File::from).map_err(|error| unable(error.into()));
    let (output, errors) = (memory()?, memory()?);
    let program = command.get_program().to_owned();
    // A program that is told to end by a signal waits until this one has been ended.
    let _held = hold();
    let child = command
        .stdin(Stdio::piped())
        .stdout(output.try_clone().map_err(unable)?)
        .stderr(errors.try_clone().map_err(unable)?)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "is not installed".to_owned(),
        // A directory of the PATH that may not be looked into, and it was in none of the others.
        ErrorKind::PermissionDenied if !is_on_path(&program) => "is not installed".to_owned(),
        _ => unable(error),
    })?;
    if let Some(mut pipe) = child.stdin.take() {
        // A helper that does not read its input reports the problem itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let status = wait(&mut child, patience, cancel)?;
    Ok((status, written(output), written(errors)))
}

/// Waits for its end, and sees to it.
fn wait(child: &mut Child, patience: Duration, cancel: &Cancel) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    loop {
        let is_cancelled = cancel.is_cancelled();
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if !is_cancelled && begin.elapsed() < patience => std::thread::sleep(LOOK_UP),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match is_cancelled {
                    true => "was interrupted".to_owned(),
                    false => format!("does not answer within {} s", patience.as_secs_f64()),
                });
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

fn written(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    // If its output cannot be read, there is no message to show.
    let _ = file.rewind().and_then(|()| file.take(MOST_ANSWER).read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};

    fn sh(script: &str, patience: Duration) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, "host", patience, &Cancel::default())
    }

    #[test]
    fn a_helper_is_ended_when_the_work_is_cancelled() {
        let cancel = Cancel::default();
        cancel.cancel();
        let mut command = Command::new("sleep");
        // Had it ended by itself, it would have an exit status.
        command.arg("60");
        assert_eq!(run(command, "host", Duration::from_secs(600), &cancel).unwrap_err(), "was interrupted");
    }

    #[test]
    fn a_helper_is_not_waited_for_without_end() {
        assert_eq!(sh("sleep 100", Duration::from_millis(50)).unwrap_err(), "does not answer within 0.05 s");
    }

    #[test]
    fn what_a_helper_leaves_running_is_not_waited_for() {
        let (status, output, errors) = sh("sleep 60 & echo $! >&2; cat", Duration::from_secs(600)).unwrap();
        assert!(status.success());
        assert_eq!(output, b"host");
        let left: i32 = String::from_utf8(errors).unwrap().trim().parse().unwrap();
        // It is still there, and can be ended.
        kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }
}
