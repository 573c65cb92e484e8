//! Connections: TLS by the system's authorities, proxies by the environment, and none that waits for ever.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy, SendBody};

use super::address::is_loopback;
use super::{RegistryError, RegistryOptions};
use crate::options::Cancel;

/// Who we say we are.
pub(crate) const USER_AGENT: &str = concat!("layflat/", env!("CARGO_PKG_VERSION"));
/// How long it may take until there is a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// How soon a signal is noticed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Makes connections, and keeps those that can be used again.
#[derive(Debug)]
pub(super) struct Http {
    options: RegistryOptions,
    /// Without a proxy; with the one for http; with the one for https.
    agents: [OnceLock<(Agent, Sender<()>)>; 3],
    cancel: Cancel,
}

impl Http {
    pub(super) fn new(options: &RegistryOptions, cancel: &Cancel) -> Self {
        Self { options: options.clone(), agents: Default::default(), cancel: cancel.clone() }
    }

    /// Sends a request and gets what comes back, of whatever status; redirects are the caller's to follow.
    pub(super) fn run(&self, request: Request<SendBody<'_>>) -> Result<Response<Body>, Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let uri = request.uri();
        let loopback = uri.authority().is_some_and(|authority| is_loopback(authority.as_str()));
        let which = match (loopback, uri.scheme_str()) {
            // As Go's programs have it: no proxy stands between this machine and itself.
            (true, _) => 0,
            (false, Some("http")) => 1,
            (false, _) => 2,
        };
        let (agent, _) = match self.agents[which].get() {
            Some(agent) => agent,
            None => {
                let agent = self.agent(which).map_err(Failure::Setup)?;
                self.agents[which].get_or_init(|| (agent.clone(), break_on_cancel(&agent, &self.cancel)))
            }
        };
        agent.run(request).map_err(|error| self.failure(error))
    }

    /// What an error of a connection means.
    pub(super) fn failure(&self, error: ureq::Error) -> Failure {
        if self.cancel.is_cancelled() { Failure::Cancelled } else { Failure::from(error, self.options.patience) }
    }

    fn agent(&self, which: usize) -> Result<Agent, RegistryError> {
        let proxy = match which {
            0 => None,
            1 => proxy(&["http_proxy", "HTTP_PROXY"])?,
            _ => proxy(&["https_proxy", "HTTPS_PROXY"])?,
        };
        let tls = TlsConfig::builder();
        let tls = if self.options.skip_tls_verification {
            tls.disable_verification(true)
        } else {
            tls.root_certs(RootCerts::new_with_certs(&roots(&self.options.ca_certificates)?))
        };
        let config = Agent::config_builder()
            .proxy(proxy)
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(self.options.patience))
            .timeout_per_write(Some(self.options.patience))
            .build();
        Ok(Agent::new_with_config(config))
    }
}

/// Breaks an agent's connections when the work is cancelled: whoever waits for a byte would not notice. Until what is returned is dropped.
pub(crate) fn break_on_cancel(agent: &Agent, cancel: &Cancel) -> Sender<()> {
    let (over, is_over) = bounded::<()>(0);
    let (agent, cancel) = (agent.clone(), cancel.clone());
    std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(LOOK_UP) {
            if cancel.is_cancelled() {
                agent.shutdown();
                return;
            }
        }
    });
    over
}

/// The authorities of the system, and those that were given besides.
fn roots(files: &[impl AsRef<Path>]) -> Result<Vec<Certificate<'static>>, RegistryError> {
    // What of the system's cannot be read is missed when a certificate needs it, and then said.
    let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
        .collect();
    for path in files.iter().map(AsRef::as_ref) {
        let wrong = |problem: String| RegistryError::File { path: path.to_owned(), problem };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let before = roots.len();
        for item in parse_pem(&pem) {
            match item.map_err(|error| wrong(format!("is no file of certificates: {error}")))? {
                PemItem::Certificate(certificate) => roots.push(certificate),
                _ => continue,
            }
        }
        if roots.len() == before {
            return Err(wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()));
        }
    }
    Ok(roots)
}

/// The proxy that the environment names, for hosts that `no_proxy` does not. It is asked for a tunnel (CONNECT), with or without TLS.
fn proxy(variables: &[&'static str; 2]) -> Result<Option<Proxy>, RegistryError> {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let all = ["all_proxy", "ALL_PROXY"];
    let Some((variable, address)) =
        variables.iter().chain(&all).find_map(|&name| value(name).map(|address| (name, address)))
    else {
        return Ok(None);
    };
    let wrong = |_| RegistryError::Proxy { variable };
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    let plain = Proxy::new(address.trim()).map_err(wrong)?;
    let mut proxy = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(name) = plain.username() {
        proxy = proxy.username(name);
    }
    if let Some(password) = plain.password() {
        proxy = proxy.password(password);
    }
    for host in value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default().split(',') {
        let host = host.trim();
        if !host.is_empty() {
            proxy = proxy.no_proxy(host);
            // A domain is meant with all that is in it.
            if !host.starts_with(['.', '*']) {
                proxy = proxy.no_proxy(&format!(".{host}"));
            }
        }
    }
    proxy.build().map(Some).map_err(wrong)
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the connection is to be made with cannot be used.
    Setup(RegistryError),
    /// Nobody answers at the address.
    Unreachable(String),
    /// The certificate.
    Certificate(String),
    /// What answers does not speak TLS.
    NotTls,
    /// It broke on the way.
    Broken(String),
    Cancelled,
}

impl Failure {
    fn from(error: ureq::Error, patience: Duration) -> Self {
        use std::io::ErrorKind;
        match error {
            ureq::Error::HostNotFound => Self::Unreachable("there is no host of this name".to_owned()),
            ureq::Error::ConnectionFailed => Self::Unreachable("no connection can be made".to_owned()),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Unreachable(format!("nobody answered within {} seconds", CONNECT.as_secs()))
            }
            ureq::Error::ConnectProxyFailed(problem) => Self::Unreachable(format!("the proxy says: {problem}")),
            ureq::Error::Timeout(_) | ureq::Error::BodyStalled => {
                Self::Broken(format!("it brought nothing for {} s", patience.as_secs_f64()))
            }
            ureq::Error::Rustls(error) => Self::of_tls(&error),
            ureq::Error::Io(error) => {
                if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    return Self::of_tls(tls);
                }
                match error.kind() {
                    ErrorKind::ConnectionRefused => {
                        Self::Unreachable("the connection is refused: nobody listens there".to_owned())
                    }
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                        Self::Unreachable(error.to_string())
                    }
                    ErrorKind::UnexpectedEof => Self::Broken("it ended too early".to_owned()),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                        Self::Broken(format!("it brought nothing for {} s", patience.as_secs_f64()))
                    }
                    // As std words it, which has no kind for it.
                    _ if error.to_string().starts_with("failed to lookup address") => {
                        Self::Unreachable(format!("there is no host of this name ({error})"))
                    }
                    _ => Self::Broken(error.to_string()),
                }
            }
            error => Self::Broken(error.to_string()),
        }
    }

    /// The same, of another server than the registry.
    pub(super) fn of(self, server: &str) -> Self {
        match self {
            Self::Unreachable(problem) => Self::Unreachable(format!("{server}: {problem}")),
            Self::Broken(problem) => Self::Broken(format!("{server}: {problem}")),
            Self::Certificate(problem) => Self::Certificate(format!("{server}: {problem}")),
            other => other,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::InvalidCertificate(problem) => Self::Certificate(problem.to_string()),
            error => Self::Broken(format!("TLS: {error}")),
        }
    }
}
