//! Collects the certificates to trust and to present: those of the system, of the options, and of the directories
//! `certs.d` that podman, skopeo and Docker have for each registry (containers-certs.d(5)).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::verifier::Verifier;
use crate::core::chain::{Cause, Context};
use crate::net::registry::{ClientCertificate, RegistryError, RegistryOptions};

/// Knows how to speak TLS with each server.
#[derive(Debug)]
pub(super) struct Trust {
    options: RegistryOptions,
    /// The registry, by its name and by its address: whom the client's certificate is for.
    registry: [String; 2],
    /// By HOST:PORT.
    known: Mutex<HashMap<String, Arc<ClientConfig>>>,
}

/// What a directory of `certs.d` holds.
#[derive(Debug, Default)]
struct Directory {
    authorities: Vec<PathBuf>,
    client: Option<ClientCertificate>,
}

impl Trust {
    pub(super) fn new(options: &RegistryOptions, registry: [&str; 2]) -> Self {
        Self { options: options.clone(), registry: registry.map(str::to_owned), known: Mutex::default() }
    }

    /// How TLS is spoken with a server, `HOST` or `HOST:PORT` as its address has it.
    ///
    /// # Errors
    /// A file of certificates or keys that cannot be used.
    pub(super) fn config(&self, authority: &str) -> Result<Arc<ClientConfig>, RegistryError> {
        if let Ok(known) = self.known.lock()
            && let Some(config) = known.get(authority)
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.build(authority)?);
        if let Ok(mut known) = self.known.lock() {
            known.insert(authority.to_owned(), config.clone());
        }
        Ok(config)
    }

    fn build(&self, authority: &str) -> Result<ClientConfig, RegistryError> {
        let provider = Arc::new(ring::default_provider());
        let is_registry = self.registry.iter().any(|name| host(name).eq_ignore_ascii_case(host(authority)));
        // Whom the registry sends us to is judged by its certificates as well, as podman does: a token server is often
        // of the same house.
        let mut directories = vec![self.directory(&[&self.registry[0], &self.registry[1]])?];
        if !is_registry {
            directories.push(self.directory(&[authority])?);
        }
        let verifier = if self.options.skip_tls_verification {
            Verifier::of_anyone(&provider)
        } else {
            let given = directories.iter().flat_map(|directory| &directory.authorities);
            Verifier::new(&provider, self.trusted(self.options.ca_certificates.iter().chain(given))?)
        };
        // Who we are is shown to the registry alone, or to whom a directory was made for.
        let of_directory = if is_registry { directories.first() } else { directories.get(1) };
        let given = self.options.client_certificate.as_ref().filter(|_| is_registry);
        let client = given.or(of_directory.and_then(|directory| directory.client.as_ref()));
        config(provider, verifier, client)
    }

    /// The certificates of the system (or of SSL_CERT_FILE and SSL_CERT_DIR), and those of files.
    fn trusted<'p>(
        &self,
        files: impl Iterator<Item = &'p PathBuf>,
    ) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
        let native = rustls_native_certs::load_native_certs();
        // What of the system's own cannot be read is missed when a certificate needs it. What somebody has named is
        // told.
        let named: Vec<&str> =
            ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
        if !named.is_empty() {
            for error in &native.errors {
                self.options.notes.tell(format!("{}: {error}; passed over", named.join(" and ")));
            }
        }
        let mut all = native.certs;
        for path in files {
            all.extend(certificates(path)?);
        }
        Ok(all)
    }

    /// The first directory that there is for one of these names.
    fn directory(&self, names: &[&str]) -> Result<Directory, RegistryError> {
        for directory in &self.options.certificate_directories {
            for name in names {
                // A name is not a path: `..` leads nowhere.
                if !name.contains('/') && !name.starts_with('.') && directory.join(name).is_dir() {
                    return read(&directory.join(name));
                }
            }
        }
        Ok(Directory::default())
    }
}

/// The host of `HOST` or `HOST:PORT`.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, RegistryError> {
    let unusable = |path: &Path, error: rustls::Error| RegistryError::File {
        path: path.to_owned(),
        error: Context::new("cannot be used", error).into(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Path::new(""), error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(client) = client else { return Ok(builder.with_no_client_auth()) };
    let wrong = |path: &Path, error: Cause| RegistryError::File { path: path.to_owned(), error };
    let pem = fs::read(&client.key).map_err(|error| wrong(&client.key, error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let what = "holds no private key in PEM form that can be read without a passphrase";
        wrong(&client.key, Context::new(what, error).into())
    })?;
    builder
        .with_client_auth_cert(certificates(&client.certificate)?, key)
        .map_err(|error| unusable(&client.certificate, error))
}

/// What is in a directory: `*.crt` are authorities, `*.cert` and `*.key` of the same name are who we are.
fn read(directory: &Path) -> Result<Directory, RegistryError> {
    let mut found = Directory::default();
    // Whoever may not look there has nothing there, as podman sees it.
    let Ok(entries) = fs::read_dir(directory) else { return Ok(found) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let missing = |path: &Path, other: PathBuf| {
            let problem = format!("needs {other:?} beside it; an authority's certificate is called *.crt");
            if other.exists() {
                Ok(())
            } else {
                Err(RegistryError::File { path: path.to_owned(), error: problem.into() })
            }
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => found.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                missing(&path, key.clone())?;
                found.client.get_or_insert(ClientCertificate { certificate: path, key });
            }
            Some("key") => missing(&path, path.with_extension("cert"))?,
            _ => {}
        }
    }
    Ok(found)
}

/// The certificates of a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let wrong = |error: Cause| RegistryError::File { path: path.to_owned(), error };
    let pem = fs::read(path).map_err(|error| wrong(error.into()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| wrong(Context::new("is not a file of certificates", error).into()))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(all)
}

/// Where podman, skopeo and Docker have their directories, first the user's own.
pub(crate) fn certificate_directories() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let own = home.map(|home| home.join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    own.into_iter().chain(shared).collect()
}
