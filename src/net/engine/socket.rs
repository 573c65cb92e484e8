//! HTTP over a Unix socket, which ureq leaves to its users.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use super::ssh::{Running, Ssh};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Connects to one engine, whatever the address says.
#[derive(Debug)]
pub(super) enum SocketConnector {
    /// Through its socket.
    Path(PathBuf),
    /// Through ssh, which we talk to over a socket of our own.
    Ssh(Ssh),
}

/// A connection, and the program that it leads through.
#[derive(Debug)]
struct Socket(UnixStream, Option<Running>);

impl Socket {
    /// The program's failure, which is why the connection ended; else what was seen of that.
    fn why(&self, error: std::io::Error) -> std::io::Error {
        self.1.as_ref().and_then(Running::failure).unwrap_or(error)
    }
}

pub(super) struct SocketTransport {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let socket = match self {
            Self::Path(path) => Socket(UnixStream::connect(path)?, None),
            Self::Ssh(ssh) => {
                let (stream, running) = ssh.connect()?;
                Socket(stream, Some(running))
            }
        };
        let socket = Arc::new(socket);
        (details.register_shutdown)(Arc::downgrade(&socket) as Weak<dyn ShutdownHandle>)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketTransport { socket, buffers }))
    }
}

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // It may have been shut down by the other side.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    // No time-outs are set for engines.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut stream = &self.socket.0;
        Ok(stream.write_all(&self.buffers.output()[..amount]).map_err(|error| self.socket.why(error))?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let mut stream = &self.socket.0;
        let input = self.buffers.input_append_buf();
        let count = loop {
            match stream.read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| self.socket.why(error))?,
            }
        };
        if count == 0
            && let Some(error) = self.socket.1.as_ref().and_then(Running::failure)
        {
            return Err(error.into());
        }
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// A new connection costs nothing.
    fn is_open(&mut self) -> bool {
        false
    }
}

impl std::fmt::Debug for SocketTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SocketTransport").field("socket", &self.socket).finish_non_exhaustive()
    }
}
