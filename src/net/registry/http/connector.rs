//! Opens connections: to the server or to a proxy, with TLS if the address says so, and with a time-out that allows for
//! a server that is still working.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, SocksConnector,
    TcpConnector, Transport, TransportAdapter,
};

use super::forward::ForwardConnector;
use super::trust::Trust;

/// The whole way to a server. `direct` is the configuration without a proxy, by which proxies themselves are reached.
pub(super) fn chain(trust: &Arc<Trust>, direct: Config) -> impl Connector {
    ().chain(SocksConnector::default())
        .chain(ForwardConnector::new(direct))
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(TlsConnector(trust.clone()))
        .chain(PatientConnector)
}

/// TLS by rustls, as ureq's own connector does it, but with a configuration for each server.
#[derive(Debug)]
struct TlsConnector(Arc<Trust>);

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let authority = details.uri.authority().ok_or(Error::HostNotFound)?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|error| Error::Other(error.into()))?;
        // Whoever has a name before the host has none for us.
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        let config = self.0.config(place).map_err(|error| Error::Other(error.into()))?;
        let mut connection = ClientConnection::new(config, name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn: connection, sock: socket } })))
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        if let Err(error) = self.stream.write_all(&self.buffers.output()[..amount]) {
            // Who hangs up has often said why: in an alert that waits to be read.
            if error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>())
                && self.stream.conn.read_tls(&mut self.stream.sock).is_ok()
            {
                self.stream.conn.process_new_packets()?;
            }
            return Err(error.into());
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsTransport").field("chained", &self.stream.sock.inner()).finish_non_exhaustive()
    }
}

/// Tells a server that works from a transfer that stands still: only the latter is given up when nothing comes for a
/// while. For the former there is another limit, the time for an answer. And it hears whoever answers before all was
/// sent, and hangs up.
#[derive(Debug)]
struct PatientConnector;

#[derive(Debug)]
struct PatientTransport<T> {
    inner: T,
    /// Something was sent, and nothing has come back yet.
    asked: bool,
    /// There was an answer before: the connection was kept, and the server may have closed it meanwhile.
    kept: bool,
    /// The response came before the whole request was sent; the rest is not needed.
    over: bool,
}

impl<In: Transport> Connector<In> for PatientConnector {
    type Out = PatientTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| PatientTransport { inner, asked: false, kept: false, over: false }))
    }
}

impl<T: Transport> Transport for PatientTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        self.asked = true;
        let result = self.inner.transmit_output(amount, timeout);
        if result.as_ref().is_err_and(is_hung_up) && self.inner.await_input(timeout).is_ok_and(|more| more) {
            (self.asked, self.over) = (false, true);
            return Ok(());
        }
        result.map_err(|error| self.closed(error))
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, Error> {
        if self.asked {
            timeout.per_read = None;
        }
        let more = self.inner.await_input(timeout).map_err(|error| self.closed(error))?;
        if !more && self.asked && self.kept {
            return Err(Error::Other(Closed.into()));
        }
        self.kept |= more && self.asked;
        self.asked &= !more;
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        !self.over && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<T> PatientTransport<T> {
    /// What an error means on a connection that was kept, before any of its next answer has come.
    fn closed(&self, error: Error) -> Error {
        let ended = matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof);
        if self.asked && self.kept && (ended || is_hung_up(&error)) { Error::Other(Closed.into()) } else { error }
    }
}

/// The server closed a connection that was kept for another request: it may not even have seen that one.
#[derive(Debug, thiserror::Error)]
#[error("it ended too early")]
pub(super) struct Closed;

fn is_hung_up(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error, Error::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset))
}
