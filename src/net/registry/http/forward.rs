//! Plain HTTP through a proxy needs the absolute address in the request (RFC 9112, 3.2.2); many proxies allow tunnels
//! to port 443 only. ureq supports tunnels only, so the request line is changed on its way out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::uri::Scheme;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};
use ureq::{Error, Proxy, ProxyProtocol};

/// Connects to the proxy instead of a server that is reached without TLS.
#[derive(Debug)]
pub(super) struct ForwardConnector {
    direct: Config,
}

impl ForwardConnector {
    pub(super) fn new(direct: Config) -> Self {
        Self { direct }
    }
}

impl<In: Transport> Connector<In> for ForwardConnector {
    type Out = Either<In, ForwardTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let proxy = details.config.proxy().filter(|proxy| forwards(proxy) && is_plain(details));
        let (None, Some(proxy), Some(authority)) = (&chained, proxy, details.uri.authority()) else {
            return Ok(chained.map(Either::A));
        };
        let to_proxy = ConnectionDetails {
            uri: proxy.uri(),
            addrs: details.resolver.resolve(proxy.uri(), &self.direct, details.timeout)?,
            config: &self.direct,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let inner = (details.run_connector)(&to_proxy)?;
        let credentials = credentials(proxy).map(|value| format!("Proxy-Authorization: {value}\r\n"));
        let address = format!("http://{authority}");
        Ok(Some(Either::B(ForwardTransport { inner, address, headers: credentials.unwrap_or_default(), begins: true })))
    }
}

fn forwards(proxy: &Proxy) -> bool {
    matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
}

fn is_plain(details: &ConnectionDetails<'_>) -> bool {
    details.uri.scheme() == Some(&Scheme::HTTP)
}

/// What a proxy wants to see (RFC 7617).
fn credentials(proxy: &Proxy) -> Option<String> {
    let (name, password) = (proxy.username(), proxy.password());
    name.or(password)?;
    let both = format!("{}:{}", name.unwrap_or_default(), password.unwrap_or_default());
    Some(format!("Basic {}", STANDARD.encode(both)))
}

#[derive(Debug)]
pub(super) struct ForwardTransport {
    inner: Box<dyn Transport>,
    /// What stands before the path.
    address: String,
    headers: String,
    /// What is sent next is the beginning of a request.
    begins: bool,
}

impl Transport for ForwardTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !std::mem::take(&mut self.begins) {
            return self.inner.transmit_output(amount, timeout);
        }
        let output = self.inner.buffers().output();
        let Some(head) = absolute(&output[..amount], &self.address, &self.headers) else {
            return Err(Error::Other("a request without its first line".into()));
        };
        let mut rest = head.as_slice();
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let count = rest.len().min(output.len());
            output[..count].copy_from_slice(&rest[..count]);
            self.inner.transmit_output(count, timeout)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // Whoever gets an answer has asked; what is sent after it is the next request.
        self.begins = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// A request's head, of which the first line has the whole address, and with more headers.
fn absolute(head: &[u8], address: &str, headers: &str) -> Option<Vec<u8>> {
    let path = head.iter().position(|byte| *byte == b' ')? + 1;
    let line = head.windows(2).position(|window| window == b"\r\n")? + 2;
    Some([&head[..path], address.as_bytes(), &head[path..line], headers.as_bytes(), &head[line..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_gets_the_whole_address() {
        let head = absolute(b"GET /v2/ HTTP/1.1\r\nHost: a:5000\r\n\r\n", "http://a:5000", "X: y\r\n").unwrap();
        assert_eq!(head, b"GET http://a:5000/v2/ HTTP/1.1\r\nX: y\r\nHost: a:5000\r\n\r\n");
        assert_eq!(absolute(b"nonsense", "http://a", ""), None);
    }

    #[test]
    fn a_proxy_is_shown_who_asks() {
        let proxy = |address| credentials(&Proxy::new(address).unwrap());
        assert_eq!(proxy("http://a:3128"), None);
        assert_eq!(proxy("http://u%20v:p%40w@a:3128"), Some(format!("Basic {}", STANDARD.encode("u v:p@w"))));
    }
}
