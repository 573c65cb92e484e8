//! Engines on other machines, reached with the user's `ssh`. It runs `docker system dial-stdio` there, which forwards
//! everything to the engine's socket (docker/cli, cli/connhelper). The user's ssh configuration, agent, keys and jump
//! hosts apply.

use crate::core::chain::Context;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::parallel::{self, Thread};

/// How long it may take until the other machine answers at all.
const CONNECT: &str = "ConnectTimeout=30";
/// As much of what ssh says as is kept.
const MOST_SAID: u64 = 4 << 10;
/// How long a program that has closed its output may take to end.
const ENDING: Duration = Duration::from_secs(2);

/// `ssh://[USER@]HOST[:PORT][/SOCKET]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket on that machine, where it is not the usual one.
    socket: Option<String>,
}

impl Ssh {
    /// Reads what follows `ssh://`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        if path.contains(['?', '#']) || authority.contains(['?', '#']) {
            return Err("an ssh address cannot have a query or a fragment");
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err("ssh takes no password in an address: use a key, or an agent");
            }
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().map_err(|_| "its port is not a number")?;
        // What begins with a dash would be an option.
        let is_word = |word: &str| !word.is_empty() && !word.starts_with('-');
        if !is_word(host) || user.as_deref().is_some_and(|user| !is_word(user)) {
            return Err("expected ssh://[USER@]HOST[:PORT][/SOCKET]");
        }
        let socket = Some(path.to_owned()).filter(|path| path.len() > 1);
        Ok(Self { user, host: host.to_owned(), port, socket })
    }

    /// Starts ssh, and gives what stands for the connection.
    pub(super) fn connect(&self) -> std::io::Result<(UnixStream, Running)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new("ssh");
        command.args(["-o", CONNECT, "-T"]);
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", &self.host, "docker"]);
        if let Some(socket) = &self.socket {
            // A shell on that machine reads it.
            command.args(["--host", &format!("'unix://{}'", socket.replace('\'', r"'\''"))]);
        }
        command.args(["system", "dial-stdio"]);
        let input: OwnedFd = theirs.try_clone()?.into();
        let output: OwnedFd = theirs.into();
        let child = command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| std::io::Error::other(Context::new("cannot start ssh", error)))?;
        // The command holds the other end; while it does, nobody would see that the program has ended.
        drop(command);
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = match child.stderr.take() {
            None => None,
            Some(errors) => {
                let heard = Arc::clone(&said);
                let listener = parallel::spawn(move || listen(errors, &heard));
                Some(listener.map_err(|_| {
                    let _ = child.kill();
                    let _ = child.wait();
                    std::io::Error::other("no thread can be made to listen to ssh: the limit of processes is reached")
                })?)
            }
        };
        Ok((ours, Running { child: Mutex::new(child), said, listener }))
    }
}

/// Reads all, so that it is never held up, and keeps the beginning.
fn listen(mut errors: impl Read, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut buffer) {
        if let Ok(mut said) = said.lock()
            && (said.len() as u64) < MOST_SAID
        {
            said.extend_from_slice(&buffer[..count]);
        }
    }
}

/// The program while it runs; it ends with the connection.
#[derive(Debug)]
pub(super) struct Running {
    child: Mutex<Child>,
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<Thread<()>>,
}

impl Running {
    /// Why the connection ended, if that was a failure.
    pub(super) fn failure(&self) -> Option<std::io::Error> {
        let mut child = self.child.lock().ok()?;
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        let status = loop {
            match child.try_wait().ok()? {
                Some(status) => break status,
                None if waited >= ENDING => return None,
                None => std::thread::sleep(step),
            }
            waited += step;
        };
        if status.success() {
            return None;
        }
        // It has said all, but that may not be heard yet; what it has left running may hold the pipe open.
        while waited < ENDING && self.listener.as_ref().is_some_and(|listener| !listener.is_finished()) {
            std::thread::sleep(step);
            waited += step;
        }
        let said = self.said.lock().map(|said| String::from_utf8_lossy(&said).trim().to_owned()).unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Some(std::io::Error::other(format!("ssh ended with {status}{said}; does `ssh HOST docker version` work?")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ssh://")?;
        self.user.as_ref().map_or(Ok(()), |user| write!(formatter, "{user}@"))?;
        if self.host.contains(':') { write!(formatter, "[{}]", self.host) } else { formatter.write_str(&self.host) }?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))?;
        formatter.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ssh() {
        for text in ["a", "me@a.io", "me@a.io:2222", "a.io:22/run/user/1/podman.sock", "me@[::1]:22"] {
            assert_eq!(Ssh::parse(text).unwrap().to_string(), format!("ssh://{text}"));
        }
        for (text, problem) in [
            ("", "expected ssh://"),
            ("-oProxyCommand=x", "expected ssh://"),
            ("-l@a", "expected ssh://"),
            ("me:pw@a", "no password"),
            ("a:b", "port"),
            ("a?x", "query"),
        ] {
            assert!(Ssh::parse(text).unwrap_err().contains(problem), "{text}");
        }
    }
}
