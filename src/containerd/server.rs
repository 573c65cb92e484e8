//! The socket, and the end of the program.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::differ::{Differ, Running};
use super::proto::diff::diff_server::DiffServer;
use super::{Event, Settings};
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

/// Serves containerd until SIGTERM or SIGINT. Then no more is begun; what is being unpacked may still be finished within
/// [`Settings::grace`], or until a second signal, and is cancelled then.
///
/// # Errors
/// The system has no threads or signals to give, or the socket breaks.
pub fn serve(listener: UnixListener, settings: &Settings) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut signalled = async || {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let running = Running::default();
        let differ = Differ::new(settings, running.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::builder().serve_with_incoming_shutdown(
            DiffServer::new(differ),
            UnixListenerStream::new(listener),
            async { drop(stopped.await) },
        );
        let ending = async {
            signalled().await;
            settings.tell.tell(&Event::Ending { layers: running.count() });
            drop(stop);
            tokio::select! {
                () = tokio::time::sleep(settings.grace) => {}
                () = signalled() => {}
            }
            running.cancel();
            // The server ends when the last of them has.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = server => served.map_err(io::Error::other),
            () = ending => Ok(()),
        }
    })
}
