//! Explains why a request got no response: what is wrong, and what to do.

use std::io::ErrorKind;
use std::time::Duration;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError};

use super::CONNECT;
use crate::core::chain::{Cause, Context};
use crate::net::registry::{RegistryError, RegistryOptions};

/// Why a request got no response.
#[derive(Debug)]
pub(in crate::net::registry) enum Failure {
    /// A certificate, key or proxy for the connection cannot be used.
    Setup(RegistryError),
    /// No connection can be made.
    Unreachable(Cause),
    /// The server's certificate is not trusted.
    Certificate(Untrusted),
    /// The server requires a client certificate.
    ClientCertificate(String),
    /// The server does not speak TLS.
    NotTls,
    /// The connection broke.
    Broken(Cause),
    /// The request was sent, and no response came within this time.
    NoAnswer(Duration),
    /// Some of it came, and not all within so long.
    TooSlow(Duration),
    Cancelled,
}

/// What is wrong with a server's certificate.
#[derive(Debug)]
pub(in crate::net::registry) struct Untrusted {
    pub(in crate::net::registry) problem: String,
    /// Whether its authority is unknown, and could be made known.
    pub(in crate::net::registry) is_unknown: bool,
}

impl Failure {
    pub(super) fn from(error: ureq::Error, options: &RegistryOptions) -> Self {
        let stalled = || Self::Broken(format!("no data for {} s", options.patience.as_secs_f64()).into());
        match error {
            ureq::Error::HostNotFound => Self::Unreachable("there is no host of this name".into()),
            ureq::Error::ConnectionFailed => Self::Unreachable("no connection can be made".into()),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Unreachable(format!("no connection within {} seconds", CONNECT.as_secs()).into())
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse) => Self::NoAnswer(options.answer),
            ureq::Error::ConnectProxyFailed(problem) => {
                // As ureq says it: "proxy server responded 407/407".
                let status = problem.rsplit('/').next().filter(|status| status.parse::<u16>().is_ok());
                Self::Unreachable(match status {
                    Some("407") => "it requires a login (407): use http://USER:PASSWORD@HOST:PORT".into(),
                    Some(status) => format!("it refuses the connection ({status})").into(),
                    None => problem.into(),
                })
            }
            ureq::Error::Timeout(_) | ureq::Error::BodyStalled => stalled(),
            ureq::Error::Rustls(error) => Self::of_tls(&error),
            ureq::Error::Other(error) => match error.downcast::<RegistryError>() {
                Ok(error) => Self::Setup(*error),
                Err(error) => Self::Broken(error),
            },
            ureq::Error::Io(error) => {
                if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    return Self::of_tls(tls);
                }
                // A time-out that went through what reads and writes TLS.
                if error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>()) {
                    return match error.into_inner().map(|inner| inner.downcast::<ureq::Error>()) {
                        Some(Ok(inner)) => Self::from(*inner, options),
                        Some(Err(inner)) => Self::Broken(inner),
                        None => stalled(),
                    };
                }
                match error.kind() {
                    ErrorKind::ConnectionRefused => {
                        Self::Unreachable("connection refused: nothing listens there".into())
                    }
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                        Self::Unreachable(error.into())
                    }
                    ErrorKind::UnexpectedEof => Self::Broken("it ended too early".into()),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => stalled(),
                    // As std words it, which has no kind for it.
                    _ if error.to_string().starts_with("failed to lookup address") => {
                        Self::Unreachable(Context::new("there is no host of this name", error).into())
                    }
                    _ => Self::Broken(error.into()),
                }
            }
            error => Self::Broken(error.into()),
        }
    }

    /// Names the server, where it is not the registry.
    pub(in crate::net::registry) fn of(self, server: &str) -> Self {
        match self {
            Self::Unreachable(cause) => Self::Unreachable(Context::new(server, cause).into()),
            Self::Broken(cause) => Self::Broken(Context::new(server, cause).into()),
            Self::Certificate(Untrusted { problem, is_unknown }) => {
                Self::Certificate(Untrusted { problem: format!("{server}: {problem}"), is_unknown })
            }
            other => other,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::InvalidCertificate(problem) => {
                Self::Certificate(Untrusted { problem: certificate(problem), is_unknown: is_unknown(problem) })
            }
            rustls::Error::AlertReceived(
                alert @ (Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied),
            ) => Self::ClientCertificate(format!("{alert:?}")),
            // What TLS 1.2 has for a missing one, and for much else.
            rustls::Error::AlertReceived(Alert::HandshakeFailure) => {
                Self::ClientCertificate("or has another reason to break off the handshake".to_owned())
            }
            error => Self::Broken(Context::new("TLS", error.clone()).into()),
        }
    }
}

/// What is wrong with a server's certificate.
fn certificate(problem: &CertificateError) -> String {
    use CertificateError as Problem;
    let day = |time: &rustls::pki_types::UnixTime| {
        let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map(|time| format!(" on {time}")).unwrap_or_default()
    };
    let clock = "the registry needs a new one, or this machine's clock is wrong";
    match problem {
        problem if is_unknown(problem) => "it is signed by an unknown authority, or by itself".to_owned(),
        Problem::Expired => format!("it has expired; {clock}"),
        Problem::ExpiredContext { not_after, .. } => format!("it expired{}; {clock}", day(not_after)),
        Problem::NotValidYet => format!("it is not valid yet; {clock}"),
        Problem::NotValidYetContext { not_before, .. } => format!("it becomes valid{}; {clock}", day(not_before)),
        Problem::NotValidForName => "it is for another name; ask the registry by the name that it is for".to_owned(),
        Problem::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("it is not for {}, nor for any name: it needs a subjectAltName", expected.to_str())
        }
        Problem::NotValidForNameContext { expected, presented } => {
            // As webpki writes them: `DnsName("a")`.
            let plain = |name: &String| match name.split_once('(') {
                Some((_, name)) => name.trim_end_matches(')').trim_matches('"').to_owned(),
                None => name.clone(),
            };
            let names: Vec<String> = presented.iter().map(plain).collect();
            format!("it is for {}, not for {}", names.join(", "), expected.to_str())
        }
        Problem::InvalidPurpose | Problem::InvalidPurposeContext { .. } => "it is not meant for servers".to_owned(),
        problem => problem.to_string(),
    }
}

/// Whether the only problem is that the certificate's authority is unknown; trusting it would solve it.
fn is_unknown(problem: &CertificateError) -> bool {
    match problem {
        // A CA with the same name and another key leads to BadSignature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        // A CA certificate used by a server is usually self-signed. webpki reports only that it is a CA.
        CertificateError::Other(other) => other.to_string().contains("CaUsedAsEndEntity"),
        _ => false,
    }
}
