//! Verifies a server's certificate.
//!
//! webpki, which rustls uses, takes no certificate of an authority for a server's (RFC 5280), and so no self-signed one
//! as `openssl req -x509` makes it. Go's programs and curl do if it is among what they trust, for good reason: who
//! trusts exactly this certificate needs no authority. So such a one is taken here as well, if its name, its dates and
//! its purpose are right; all else is webpki's to judge.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme};

use super::certificate::Certificate;

/// Judges certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Trusted,
}

#[derive(Debug)]
enum Trusted {
    Anyone,
    Known {
        /// Those that are trusted as they are, and as authorities.
        certificates: Vec<CertificateDer<'static>>,
        /// `None` without any trusted CA.
        authorities: Option<Arc<WebPkiServerVerifier>>,
    },
}

impl Verifier {
    /// Whoever answers is believed.
    pub(super) fn of_anyone(provider: &Arc<CryptoProvider>) -> Self {
        Self { provider: provider.clone(), trusted: Trusted::Anyone }
    }

    /// Accepts these certificates, and those that they signed.
    pub(super) fn new(provider: &Arc<CryptoProvider>, certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        // It fails for want of roots only.
        let authorities = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build().ok();
        Self { provider: provider.clone(), trusted: Trusted::Known { certificates, authorities } }
    }

    /// Whether the server holds the key of a certificate that webpki cannot read: one of version 1.
    fn verify_old(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let Some((_, algorithms)) = mapping.iter().find(|(scheme, _)| *scheme == signed.scheme) else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let is_right = algorithms.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == parsed.algorithm
                && algorithm.verify_signature(parsed.key, message, signed.signature()).is_ok()
        });
        if is_right { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trusted::Known { certificates, authorities } = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        if certificates.iter().any(|known| known == certificate) {
            return is_usable(certificate, name, now).map(|()| ServerCertVerified::assertion());
        }
        match authorities {
            Some(authorities) => authorities.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if ParsedCertificate::try_from(certificate).is_err() {
            return self.verify_old(message, certificate, signed);
        }
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if ParsedCertificate::try_from(certificate).is_err() {
            return self.verify_old(message, certificate, signed);
        }
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<Certificate<'a>, CertificateError> {
    Certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding)
}

/// Whether a certificate that is trusted as it is may be this server's, now.
fn is_usable(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    let [not_before, not_after] = [parsed.not_before, parsed.not_after].map(UnixTime::since_unix_epoch);
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if !parsed.is_for_servers {
        return Err(CertificateError::InvalidPurpose.into());
    }
    if parsed.has_alternative_name {
        return rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
    }
    // Go wants an alternative name; curl is content with the common name, which is what old recipes make.
    if parsed.common_names.iter().any(|common| is_name(common, name)) {
        return Ok(());
    }
    let presented = parsed.common_names;
    Err(CertificateError::NotValidForNameContext { expected: name.to_owned(), presented }.into())
}

/// Whether a common name means a server.
fn is_name(common: &str, name: &ServerName<'_>) -> bool {
    match name {
        ServerName::IpAddress(address) => common.parse::<IpAddr>().is_ok_and(|common| common == IpAddr::from(*address)),
        ServerName::DnsName(name) => {
            let name = name.as_ref();
            let parent = || name.split_once('.').map(|(_, parent)| parent);
            common.eq_ignore_ascii_case(name)
                || common
                    .strip_prefix("*.")
                    .is_some_and(|common| parent().is_some_and(|parent| common.eq_ignore_ascii_case(parent)))
        }
        _ => false,
    }
}
