//! Why nothing came back, in words that say what is wrong and what to do.

use std::io::ErrorKind;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use x509_parser::time::ASN1Time;

use super::CONNECT;
use crate::net::registry::{RegistryError, RegistryOptions};

/// Why nothing came back.
#[derive(Debug)]
pub(in crate::net::registry) enum Failure {
    /// What the connection is to be made with cannot be used.
    Setup(RegistryError),
    /// Nobody answers at the address.
    Unreachable(String),
    /// The certificate.
    Certificate(String),
    /// It wants to see one of ours.
    ClientCertificate(String),
    /// What answers does not speak TLS.
    NotTls,
    /// It broke on the way.
    Broken(String),
    /// All was sent, and nobody answered for so long.
    NoAnswer(Duration),
    Cancelled,
}

impl Failure {
    pub(super) fn from(error: ureq::Error, options: &RegistryOptions) -> Self {
        let stalled = || Self::Broken(format!("no data for {} s", options.patience.as_secs_f64()));
        match error {
            ureq::Error::HostNotFound => Self::Unreachable("there is no host of this name".to_owned()),
            ureq::Error::ConnectionFailed => Self::Unreachable("no connection can be made".to_owned()),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Unreachable(format!("no connection within {} seconds", CONNECT.as_secs()))
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse) => Self::NoAnswer(options.answer),
            ureq::Error::ConnectProxyFailed(problem) => {
                // As ureq says it: "proxy server responded 407/407".
                let status = problem.rsplit('/').next().filter(|status| status.parse::<u16>().is_ok());
                Self::Unreachable(match status {
                    Some("407") => "it requires a login (407): use http://USER:PASSWORD@HOST:PORT".to_owned(),
                    Some(status) => format!("it refuses the connection ({status})"),
                    None => problem,
                })
            }
            ureq::Error::Timeout(_) | ureq::Error::BodyStalled => stalled(),
            ureq::Error::Rustls(error) => Self::of_tls(&error),
            ureq::Error::Other(error) => match error.downcast::<RegistryError>() {
                Ok(error) => Self::Setup(*error),
                Err(error) => Self::Broken(error.to_string()),
            },
            ureq::Error::Io(error) => {
                if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    return Self::of_tls(tls);
                }
                // A time-out that went through what reads and writes TLS.
                if error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>()) {
                    return match error.into_inner().map(|inner| inner.downcast::<ureq::Error>()) {
                        Some(Ok(inner)) => Self::from(*inner, options),
                        Some(Err(inner)) => Self::Broken(inner.to_string()),
                        None => stalled(),
                    };
                }
                match error.kind() {
                    ErrorKind::ConnectionRefused => {
                        Self::Unreachable("connection refused: nothing listens there".to_owned())
                    }
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                        Self::Unreachable(error.to_string())
                    }
                    ErrorKind::UnexpectedEof => Self::Broken("it ended too early".to_owned()),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => stalled(),
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
    pub(in crate::net::registry) fn of(self, server: &str) -> Self {
        match self {
            Self::Unreachable(problem) => Self::Unreachable(format!("{server}: {problem}")),
            Self::Broken(problem) => Self::Broken(format!("{server}: {problem}")),
            Self::Certificate(problem) => Self::Certificate(format!("{server}: {problem}")),
            other => other,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::InvalidCertificate(problem) => Self::Certificate(certificate(problem)),
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
            error => Self::Broken(format!("TLS: {error}")),
        }
    }
}

/// What is wrong with a server's certificate, and what to do.
fn certificate(problem: &CertificateError) -> String {
    use CertificateError as Problem;
    let day = |time: &rustls::pki_types::UnixTime| {
        let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
        time.map(|time| format!(" on {time}")).unwrap_or_default()
    };
    let clock = "the registry needs a new one, or this machine's clock is wrong";
    match problem {
        // The latter is what an authority of the same name, but of another key, makes of it.
        Problem::UnknownIssuer | Problem::BadSignature => unknown(),
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
        // An authority's, and so most often its own: webpki does not look further.
        Problem::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => unknown(),
        Problem::InvalidPurpose | Problem::InvalidPurposeContext { .. } => "it is not meant for servers".to_owned(),
        problem => problem.to_string(),
    }
}

fn unknown() -> String {
    "it is signed by an unknown authority, or by itself; give the authority's certificate, or this one, with --ca-cert FILE".to_owned()
}
