//! HTTP over a socket in the file system, which the HTTP library leaves to its users.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Connects to one socket, whatever the address says.
#[derive(Debug)]
pub(super) struct SocketConnector(pub(super) PathBuf);

/// A connection.
#[derive(Debug)]
struct Socket(UnixStream);

pub(super) struct SocketTransport {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let socket = Arc::new(Socket(UnixStream::connect(&self.0)?));
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
        Ok(stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let mut stream = &self.socket.0;
        let input = self.buffers.input_append_buf();
        let count = loop {
            match stream.read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
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
