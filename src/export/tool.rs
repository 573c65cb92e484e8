//! Runs a file system's own program so that it ends when we do, however that happens.

use std::ffi::OsString;
use std::io::{ErrorKind, PipeWriter, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::core::cancel::Cancel;
use crate::core::text::Printable;
use crate::unpack::Error;

/// Starts the program in its place, after a watchdog in the same process group: it waits for the end of a pipe, whose other end only we
/// hold, and kills the group. The pipe comes where standard output would be, since no other handles can be passed. So the program, and what it starts, dies with us even when we are killed. (The kernel's
/// parent-death signal would have to be asked for between fork and exec, where the standard library wants `unsafe`; `setpriv --pdeathsig`
/// is not installed everywhere.)
const GUARDED: &str =
    r#"exec 3<&1 >/dev/null; { cat <&3; kill -KILL 0; } </dev/null >/dev/null 2>&1 & exec 3<&-; exec "$@""#;
/// How often we look whether the work was cancelled.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// As much of what a program says as is kept.
const MOST_SAID: usize = 16 << 10;

/// A program that comes with a package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

/// Where programs are that make and check file systems, which the PATH of an ordinary user does not name everywhere.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The PATH, and behind it where such programs are.
fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from));
    // They came from such a list.
    std::env::join_paths(all).unwrap_or(path)
}

impl Tool {
    /// Whether it can be started.
    pub(super) fn is_installed(self) -> bool {
        std::env::split_paths(&search_path()).any(|directory| directory.join(self.program).is_file())
    }

    /// An error, if it cannot be started.
    pub(super) fn require(self) -> Result<(), Error> {
        let Self { program, package } = self;
        let mut asked = Command::new(program);
        asked.env("PATH", search_path());
        asked.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match asked.status() {
            Ok(_) => Ok(()),
            // Where a directory of the PATH is closed to the user, the kernel speaks of that and not of the program.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                Err(Error::Product(format!("{program} is not installed; it comes with the package {package}").into()))
            }
            Err(error) => Err(self.cannot_run(error)),
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Whatever makes it end with anything but success, with what it said; and [`Error::Cancelled`], after it was ended.
    pub(super) fn run(self, arguments: &Command, cancel: &Cancel) -> Result<(), Error> {
        let mut running = self.start(arguments, Stdio::null())?;
        let ended = running.wait(cancel).map_err(|error| self.cannot_run(error))?;
        self.judge(&ended, cancel)
    }

    /// Runs it to its end, with what `write` writes as its standard input.
    ///
    /// # Errors
    /// As [`Tool::run`], and those of `write`; where the tool has ended before it has read everything, what made it end.
    pub(super) fn feed(
        self,
        arguments: &Command,
        cancel: &Cancel,
        write: impl FnOnce(PipeWriter) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (input, output) = std::io::pipe().map_err(|error| self.cannot_run(error))?;
        let mut running = self.start(arguments, input.into())?;
        let (written, ended) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| running.wait(cancel));
            // When it returns, the pipe is closed, and what reads it comes to its end, whatever it makes of that.
            let written = write(output);
            (written, waiting.join())
        });
        let ended =
            ended.map_err(|_| self.cannot_run(std::io::Error::other("the thread that waits for it has failed")))?;
        let ended = ended.map_err(|error| self.cannot_run(error))?;
        match (written, self.judge(&ended, cancel)) {
            // That it did not read everything is told by what made it end, if anything did.
            (Err(Error::Io { .. } | Error::Write { .. }), Err(judged)) => Err(judged),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    fn start(self, arguments: &Command, input: Stdio) -> Result<Running, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARDED, "layflat"]).arg(arguments.get_program()).args(arguments.get_args());
        command.env("PATH", search_path());
        for (name, value) in arguments.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (watched, lifeline) = std::io::pipe().map_err(|error| self.cannot_run(error))?;
        // A group of its own: a Ctrl-C in a terminal is for us, who end it and clean up.
        command.process_group(0).stdin(input).stdout(watched).stderr(Stdio::piped());
        Ok(Running::new(command.spawn().map_err(|error| self.cannot_run(error))?, lifeline))
    }

    fn judge(self, (status, said): &(ExitStatus, Vec<u8>), cancel: &Cancel) -> Result<(), Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if status.success() { Ok(()) } else { Err(Error::Product(self.failure(*status, said).into())) }
    }

    fn cannot_run(self, error: std::io::Error) -> Error {
        Error::Io { action: format!("cannot run {}", self.program), error }
    }

    /// Its end, and what it said, on one line.
    fn failure(self, status: ExitStatus, said: &[u8]) -> String {
        let lines = said.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
        let lines: Vec<String> =
            lines.filter(|line| !line.is_empty()).map(|line| Printable(line).to_string()).collect();
        let end = match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => "failed".to_owned(),
        };
        let said = if lines.is_empty() { status.to_string() } else { lines.join("; ") };
        format!("{} {end}: {said}", self.program)
    }
}

/// A program at work, with all that it starts. It ends when this is dropped.
struct Running {
    child: Child,
    said: Option<ChildStderr>,
    /// What the watchdog waits for.
    _lifeline: PipeWriter,
}

impl Running {
    fn new(mut child: Child, lifeline: PipeWriter) -> Self {
        Self { said: child.stderr.take(), _lifeline: lifeline, child }
    }

    /// Its end and the beginning of what it said; if the work was cancelled it is ended.
    fn wait(&mut self, cancel: &Cancel) -> std::io::Result<(ExitStatus, Vec<u8>)> {
        let ended = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let mut all = Vec::new();
        loop {
            let mut waited = vec![PollFd::new(&ended, PollFlags::IN)];
            waited.extend(self.said.as_ref().map(|said| PollFd::new(said, PollFlags::IN)));
            match poll(&mut waited, Some(&LOOK_UP)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let (has_ended, has_said) =
                (!waited[0].revents().is_empty(), waited.get(1).is_some_and(|said| !said.revents().is_empty()));
            if cancel.is_cancelled() {
                self.end();
            } else if has_said && let Some(said) = &mut self.said {
                let mut piece = [0; 4096];
                match said.read(&mut piece) {
                    Ok(0) => self.said = None,
                    Ok(length) => all.extend_from_slice(&piece[..length.min(MOST_SAID.saturating_sub(all.len()))]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            if has_ended || cancel.is_cancelled() {
                return Ok((self.child.wait()?, all));
            }
        }
    }

    /// Ends the whole group. Nothing of what it made is of use to anybody, so there is nothing that it should finish first.
    fn end(&self) {
        // Gone already is fine. Not waited for yet, so the number is still its own.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const SH: Tool = Tool { program: "sh", package: "dash" };

    fn sh(script: &str, cancel: &Cancel) -> Result<(), Error> {
        SH.run(Command::new("sh").args(["-c", script]), cancel)
    }

    #[test]
    fn what_a_tool_says_is_in_the_error_on_one_line() {
        let error = sh(r"printf 'one\n\n \033[31mtwo\n' >&2; exit 3", &Cancel::default()).unwrap_err();
        assert_eq!(error.to_string(), r"sh failed: one; \u{1b}[31mtwo");
        let error = sh("exit 3", &Cancel::default()).unwrap_err();
        assert_eq!(error.to_string(), "sh failed: exit status: 3");
        assert!(sh("echo all is well >&2", &Cancel::default()).is_ok());
    }

    #[test]
    fn a_tool_that_is_killed_is_no_success() {
        let error = sh("kill -9 $$", &Cancel::default()).unwrap_err();
        assert!(error.to_string().starts_with("sh was killed by signal 9"), "{error}");
    }

    #[test]
    fn a_tool_that_says_much_does_not_stand_still() {
        let error = sh("yes | head -c 1000000 >&2; exit 1", &Cancel::default()).unwrap_err();
        assert!(error.to_string().len() < 3 * MOST_SAID);
    }

    #[test]
    fn a_tool_ends_when_the_work_is_cancelled() {
        let cancel = Cancel::default();
        let later = cancel.clone();
        let place = tempfile::tempdir().unwrap();
        let (started, ended) = (place.path().join("started"), place.path().join("ended"));
        let waiting = started.clone();
        let thread = std::thread::spawn(move || {
            until("it has started", || waiting.exists());
            later.cancel();
        });
        // The child of the child, too.
        let script = "sleep 60 & echo $! >\"$0\"-; mv \"$0\"- \"$0\"; wait; echo >\"$1\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).args([&started, &ended]);
        let result = SH.run(&command, &cancel);
        assert!(matches!(result, Err(Error::Cancelled)));
        thread.join().unwrap();
        let child = std::fs::read_to_string(started).unwrap();
        until("its child has ended", || !is_sleeping(child.trim()));
        assert!(!ended.exists(), "it came to its end");
    }

    /// Whether this is a process that sleeps, and more than what is left of it for whoever waits for it.
    fn is_sleeping(process: &str) -> bool {
        std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_tool_that_is_missing_is_named_with_its_package() {
        let error = Tool { program: "layflat-no-such-tool", package: "none" }.require().unwrap_err();
        assert_eq!(error.to_string(), "layflat-no-such-tool is not installed; it comes with the package none");
    }
}
