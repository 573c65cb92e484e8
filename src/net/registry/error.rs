//! What can go wrong with a registry, and whether it is worth another try.

use std::path::PathBuf;
use std::time::Duration;

use super::End;
use crate::configuration::ConfigurationError;
use crate::core::chain::Cause;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        #[source]
        error: Cause,
    },
    /// The registry cannot show that it is the registry.
    #[error("the registry {registry} has an untrusted certificate: {problem}")]
    Certificate {
        /// Its host.
        registry: String,
        /// What is wrong with it.
        problem: String,
        /// Whether its authority is unknown, and could be made known.
        is_unknown: bool,
        /// Which end of a copy it is.
        end: End,
    },
    /// The registry wants to see a certificate of who asks.
    #[error("the registry {registry} requires a client certificate that it accepts ({problem})")]
    ClientCertificate {
        /// Its host.
        registry: String,
        /// What it says.
        problem: String,
        /// Which end of a copy it is.
        end: End,
    },
    /// No TLS, and nobody allowed that.
    #[error("the registry {registry} does not speak TLS")]
    NotTls {
        /// Its host.
        registry: String,
        /// Which end of a copy it is.
        end: End,
    },
    /// A connection that broke, or brought nothing any more, as often as it was tried.
    #[error("{what}: the connection to {registry} broke")]
    Broken {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// What is known of it.
        #[source]
        error: Cause,
    },
    /// All was sent, and no answer came, as often as it was tried.
    #[error("{what}: the registry {registry} did not answer within {} s", .waited.as_secs_f64())]
    NoAnswer {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// For how long.
        waited: Duration,
    },
    /// 401 or 403: access denied.
    #[error("{what}: the registry {registry} denied access: {problem}")]
    Denied {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// What it says, and what to do.
        problem: String,
        /// The end of a copy that it is, if nobody has logged in to it.
        anonymous: Option<End>,
    },
    /// 404: no such manifest, blob or repository.
    #[error("{what}: the registry {registry} does not have it: {problem}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// What it says, and what to do.
        problem: String,
    },
    /// Any other answer that is a refusal.
    #[error("{what}: the registry {registry} answered {status}{}", said(.message, *.retry_after))]
    Refused {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// The status, in numbers and words.
        status: String,
        /// What the registry says.
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
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// The most there may be.
        limit: u64,
    },
    /// An answer that makes no sense.
    #[error("{what}: the registry {registry} gave an unexpected answer: {problem}")]
    Nonsense {
        /// What was asked for.
        what: String,
        /// The registry's host.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of certificates or credentials that cannot be used.
    #[error("{path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: Cause,
    },
    /// What the administrator has decided cannot be read.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The administrator does not allow it.
    #[error("{name} is blocked: {file:?} has blocked = true for {prefix:?}")]
    Blocked {
        /// The repository.
        name: String,
        /// The prefix of its name that is blocked.
        prefix: String,
        /// The `registries.conf` that says so.
        file: PathBuf,
    },
    /// The server that gives out a registry's tokens does not.
    #[error("{what}: {server}, the token server of the registry {registry}, {problem}{}", said("", *.retry_after))]
    Token {
        /// What was asked for.
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
    /// A proxy that makes no sense.
    #[error("{variable} {problem}: expected http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")]
    Proxy {
        /// The environment variable that names it.
        variable: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// What was to be sent cannot be read.
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

/// For readers, whose errors are of this kind.
impl From<RegistryError> for std::io::Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Input { error, .. } => error,
            error => Self::other(error),
        }
    }
}
