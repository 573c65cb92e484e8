//! What a caller can configure about registries.

use std::path::PathBuf;
use std::time::Duration;

use super::Credentials;
use super::http::certificate_directories;
use crate::configuration::{ConfigurationFile, Mirror};
use crate::notes::Notes;

/// Which end of a copy a registry is at. Messages name the options that are for this end alone: what one end needs may
/// be wrong for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// There is one registry.
    #[default]
    Only,
    /// Images come from it, and go to another one.
    Source,
    /// Images go to it, and come from another one.
    Destination,
}

/// A client certificate, for registries that require one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those that lead from it to its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// How registries are talked to. The default is what is safe: TLS, verified by the system's authorities, and
/// credentials from where `docker login` and `podman login` leave them.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Credentials. When `None`, they are looked up in the files of Docker and Podman once the registry asks for them.
    pub credentials: Option<Credentials>,
    /// The one file in which credentials are looked up, instead of where Docker and Podman have theirs.
    pub authfile: Option<PathBuf>,
    /// Files of certificates (PEM) that are trusted besides the system's: authorities', or servers' own.
    pub ca_certificates: Vec<PathBuf>,
    /// Shown to the registry if it wants to see one. Looked up in
    /// [`certificate_directories`](Self::certificate_directories) when `None`.
    pub client_certificate: Option<ClientCertificate>,
    /// Directories that hold one for each registry, by its name and port, as containers-certs.d(5) has it. The first
    /// that has it is read.
    pub certificate_directories: Vec<PathBuf>,
    /// Take any certificate: whoever answers is believed to be the registry.
    pub skip_tls_verification: bool,
    /// No TLS at all. A registry on this machine's loopback may do without in any case.
    pub plain_http: bool,
    /// Without TLS where the registry does not speak it. `registries.conf` says so of a registry with `insecure =
    /// true`.
    pub insecure: bool,
    /// The `registries.conf` that counts: where images are pulled from, and which registries must not be used.
    pub configuration: ConfigurationFile,
    /// Asked for what has a digest before any registry, in this order. What is wrong with one is no reason to fail.
    pub mirrors: Vec<Mirror>,
    /// A directory with a `hosts.toml` for each registry, as containerd has it in `/etc/containerd/certs.d`: its mirrors are asked after those.
    pub hosts_directory: Option<PathBuf>,
    /// Hears what the user should know: which mirror served or failed, and what is odd but no reason to fail.
    pub notes: Notes,
    /// How long a transfer may stand still before it counts as broken.
    pub patience: Duration,
    /// How long an answer may take once all was sent: the registry may be storing a blob, or fetching it from
    /// elsewhere.
    pub answer: Duration,
    /// How often a question is asked again, if that may help: after a broken connection, or when the registry is busy.
    pub retries: u32,
    /// Which end of a copy it is at, for messages.
    pub end: End,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            authfile: None,
            ca_certificates: Vec::new(),
            client_certificate: None,
            certificate_directories: certificate_directories(),
            skip_tls_verification: false,
            plain_http: false,
            insecure: false,
            configuration: ConfigurationFile::Nothing,
            mirrors: Vec::new(),
            hosts_directory: None,
            notes: Notes::default(),
            patience: Duration::from_secs(30),
            answer: Duration::from_secs(600),
            retries: 5,
            end: End::Only,
        }
    }
}
