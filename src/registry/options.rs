//! What a caller can decide about talking to registries.

use std::path::PathBuf;
use std::time::Duration;

use super::Credentials;
use crate::notes::Notes;

/// How registries are talked to. The default is what is safe: TLS, verified by the system's authorities, and credentials from where
/// `docker login` and `podman login` leave them.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Who asks. Looked up in the files of Docker and Podman when `None`, once the registry wants to know.
    pub credentials: Option<Credentials>,
    /// The one file in which credentials are looked up, instead of where Docker and Podman have theirs.
    pub authfile: Option<PathBuf>,
    /// Files of certificates (PEM) of authorities that are trusted besides the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// Take any certificate: whoever answers is believed to be the registry.
    pub skip_tls_verification: bool,
    /// No TLS at all. A registry on this machine's loopback may do without in any case.
    pub plain_http: bool,
    /// How long a connection may bring nothing before it counts as broken.
    pub patience: Duration,
    /// How often a question is asked again, if that may help: after a broken connection, or when the registry is busy.
    pub retries: u32,
    /// Where notes go: which files of credentials were passed over, and why.
    pub notes: Notes,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            authfile: None,
            ca_certificates: Vec::new(),
            skip_tls_verification: false,
            plain_http: false,
            patience: Duration::from_secs(30),
            retries: 5,
            notes: Notes::default(),
        }
    }
}
