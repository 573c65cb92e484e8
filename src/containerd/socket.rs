//! Where others connect to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;

use crate::core::chain::Context;

/// Listens on a socket that only its owner can connect to. What a program left there that is gone is removed.
///
/// To be called while the program has one thread.
///
/// # Errors
/// Somebody else listens there, or the socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let failed = |error| io::Error::other(Context::new(format!("cannot listen on {path:?}"), error));
    let bind = || {
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        bound
    };
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                // What is no socket does not refuse connections, and stays.
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {}
                _ => return Err(failed(error)),
            }
            std::fs::remove_file(path).and_then(|()| bind()).map_err(failed)
        }
        bound => bound.map_err(failed),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Where metrics are asked for.
#[derive(Debug)]
pub struct MetricsListener(pub(super) Listener);

#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl MetricsListener {
    /// Listens at the path of a socket, which has a slash, or at an IP address and port.
    ///
    /// To be called while the program has one thread.
    ///
    /// # Errors
    /// It is neither, or somebody else listens there.
    pub fn at(address: &str) -> io::Result<Self> {
        if address.contains('/') {
            return Ok(Self(Listener::Unix(listen(Path::new(address))?)));
        }
        let failed = |error| io::Error::other(Context::new(format!("cannot listen on {address:?} for metrics"), error));
        let parsed: SocketAddr = address.parse().map_err(|_| {
            failed(io::Error::other(
                "it is neither the path of a socket nor an IP address and a port, as 127.0.0.1:9000",
            ))
        })?;
        TcpListener::bind(parsed).map(|listener| Self(Listener::Tcp(listener))).map_err(failed)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<String> {
        Ok(match &self.0 {
            Listener::Unix(listener) => {
                listener.local_addr()?.as_pathname().unwrap_or(Path::new("")).display().to_string()
            }
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
        })
    }
}
