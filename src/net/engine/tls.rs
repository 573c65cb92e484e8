//! TLS for engines: which certificates are trusted, and which client certificate is presented.

use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::DaemonError;
use crate::core::chain::{Cause, Context};

/// Files of certificates, by the names that Docker has for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// The authority's; the system's authorities if there is none.
    pub(super) ca: Option<PathBuf>,
    /// Ours, and its key.
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) skip_verification: bool,
}

impl Certificates {
    /// Those that are in a directory.
    pub(super) fn in_directory(directory: &Path) -> Self {
        let file = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
        Self { ca: file("ca.pem"), certificate: file("cert.pem"), key: file("key.pem"), skip_verification: false }
    }

    /// Whether there are any, or it was said how to do without.
    pub(super) fn is_some(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn config(&self) -> Result<TlsConfig, DaemonError> {
        let mut config = TlsConfig::builder().disable_verification(self.skip_verification);
        let roots: Vec<Certificate<'static>> = match &self.ca {
            Some(path) => read(path, certificate)?,
            None => rustls_native_certs::load_native_certs()
                .certs
                .iter()
                .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
                .collect(),
        };
        config = config.root_certs(RootCerts::new_with_certs(&roots));
        if let (Some(chain), Some(key)) = (&self.certificate, &self.key) {
            let chain = read(chain, certificate)?;
            let wrong = || DaemonError::Certificates { path: key.clone(), error: "holds no private key".into() };
            let key: PrivateKey<'static> = read(key, private_key)?.pop().ok_or_else(wrong)?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        Ok(config.build())
    }
}

fn certificate(item: PemItem<'static>) -> Option<Certificate<'static>> {
    if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None }
}

fn private_key(item: PemItem<'static>) -> Option<PrivateKey<'static>> {
    if let PemItem::PrivateKey(key) = item { Some(key) } else { None }
}

/// What a file in PEM form holds of one kind.
fn read<T>(path: &Path, wanted: fn(PemItem<'static>) -> Option<T>) -> Result<Vec<T>, DaemonError> {
    let wrong = |error: Cause| DaemonError::Certificates { path: path.to_owned(), error };
    let pem = std::fs::read(path).map_err(|error| wrong(Context::new("cannot be read", error).into()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        found.extend(wanted(item.map_err(|error| wrong(Context::new("is not in PEM form", error).into()))?));
    }
    if found.is_empty() { Err(wrong("holds no certificate or key of the expected kind".into())) } else { Ok(found) }
}
