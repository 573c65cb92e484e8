//! Errors of registries, and which of them are worth a retry.

use std::path::PathBuf;
use std::time::Duration;

use super::End;
use crate::configuration::ConfigurationError;
use crate::core::chain::Cause;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection can be made.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        #[source]
        error: Cause,
    },
    /// The registry's certificate is not trusted.
    #[error("the registry {registry} has an untrusted certificate: {problem}")]
    Certificate {
        /// Its host.
        registry: String,
        /// The problem.
        problem: String,
        /// Whether its authority is unknown, and could be made known.
        is_unknown: bool,
        /// Which end of a copy it is.
        end: End,
    },
    /// The registry requires a client certificate.
    #[error("the registry {registry} requires a client certificate that it accepts ({problem})")]
    ClientCertificate {
        /// Its host.
        registry: String,
        /// The message.
        problem: String,
        /// Which end of a copy it is.
        end: End,
    },
    /// The registry does not speak TLS, and plain HTTP was not allowed.
    #[error("the registry {registry} does not speak TLS")]
    NotTls {
        /// Its host.
        registry: String,
        /// Which end of a copy it is.
        end: End,
    },
    /// The connection broke or stalled in every attempt.
    #[error("{what}: the connection to {registry} broke")]
    Broken {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// What is known of it.
        #[source]
        error: Cause,
    },
    /// No response came in any attempt.
    #[error("{what}: the registry {registry} did not answer within {} s", .waited.as_secs_f64())]
    NoAnswer {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// For how long.
        waited: Duration,
    },
    /// 401 or 403: access denied.
    #[error("{what}: the registry {registry} denied access: {problem}")]
    Denied {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// What it says, and what to do.
        problem: String,
        /// Which end of a copy the registry is, if no credentials were found for it.
        anonymous: Option<End>,
    },
    /// 404: no such manifest, blob or repository.
    #[error("{what}: the registry {registry} does not have it: {problem}")]
    NotFound {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// What it says, and what to do.
        problem: String,
    },
    /// Any other response with an error status.
    #[error("{what}: the registry {registry} answered {status}{}", said(.message, *.retry_after))]
    Refused {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// The status, in numbers and words.
        status: String,
        /// The message of the registry.
        message: String,
        /// Whether it may help to ask again.
        passing: bool,
        /// When the registry says to ask again.
        retry_after: Option<Duration>,
    },
    /// A document of which not all came in time.
    #[error("{what}: the registry {registry} sent only a part of it within {} s", .within.as_secs_f64())]
    TooSlow {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// How long it may take in all.
        within: Duration,
    },
    /// A manifest of more than [`Limits::metadata_size`](crate::Limits::metadata_size).
    #[error("{what}: the registry {registry} has a manifest that exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// The limit.
        limit: u64,
    },
    /// A response that violates the protocol.
    #[error("{what}: the registry {registry} gave an unexpected answer: {problem}")]
    Protocol {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// The problem.
        problem: String,
    },
    /// A file of certificates or credentials that cannot be used.
    #[error("{path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// `registries.conf` cannot be read.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// `registries.conf` blocks the registry.
    #[error("{name} is blocked: {file:?} has blocked = true for {prefix:?}")]
    Blocked {
        /// The repository.
        name: String,
        /// The prefix of its name that is blocked.
        prefix: String,
        /// The `registries.conf` that says so.
        file: PathBuf,
    },
    /// The token server of the registry failed.
    #[error("{what}: {server}, the token server of the registry {registry}, {problem}{}", said("", *.retry_after))]
    Token {
        /// The requested name.
        what: String,
        /// The registry's host.
        registry: String,
        /// Its address.
        server: String,
        /// What it does instead.
        problem: String,
        /// Whether it may help to ask again.
        passing: bool,
        /// When it says to ask again.
        retry_after: Option<Duration>,
    },
    /// The address of a proxy is invalid.
    #[error("{variable} {problem}: expected http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")]
    Proxy {
        /// The environment variable that names it.
        variable: &'static str,
        /// The problem.
        problem: String,
    },
    /// The data to send cannot be read.
    #[error("{what}: cannot read what is to be sent")]
    Input {
        /// What was to be done.
        what: String,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// [`Cancel`](crate::Cancel) was used.
    #[error("interrupted")]
    Cancelled,
}

fn said(message: &str, retry_after: Option<Duration>) -> String {
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    match retry_after {
        Some(wait) => format!("{message} (it asks to retry after {} s)", wait.as_secs()),
        None => message,
    }
}

impl RegistryError {
    /// Whether it may help to ask again, and, if the registry says so, when.
    pub(super) fn is_passing(&self) -> Option<Option<Duration>> {
        match self {
            Self::Broken { .. } | Self::NoAnswer { .. } => Some(None),
            Self::Refused { passing: true, retry_after, .. } | Self::Token { passing: true, retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

/// For implementations of `Read`.
impl From<RegistryError> for std::io::Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Input { error, .. } => error,
            error => Self::other(error),
        }
    }
}
