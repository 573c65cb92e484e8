//! Public keys, and whether one of them made a signature. The hash is always SHA-256, as in cosign and
//! containers/image.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use spki::der::Document;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EDWARDS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key.
pub(crate) struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a key as PEM; says otherwise what is wrong with it.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(pem).map_err(|_| "is not text".to_owned())?;
        let (label, document) =
            Document::from_pem(text.trim_start()).map_err(|error| format!("is not PEM: {error}"))?;
        if label == "RSA PUBLIC KEY" {
            return Ok(Self { algorithm: &RSA_PKCS1_2048_8192_SHA256, bytes: document.as_bytes().to_vec() });
        }
        if label != "PUBLIC KEY" {
            return Err(format!("holds a {label}, not a PUBLIC KEY"));
        }
        let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes())
            .map_err(|error| format!("is not a public key: {error}"))?;
        let curve = || info.algorithm.parameters_oid().ok();
        let algorithm: &'static dyn VerificationAlgorithm = match info.algorithm.oid {
            EC if curve() == Some(P256) => &ECDSA_P256_SHA256_ASN1,
            EC if curve() == Some(P384) => &ECDSA_P384_SHA256_ASN1,
            RSA => &RSA_PKCS1_2048_8192_SHA256,
            EDWARDS => &ED25519,
            _ => {
                return Err(
                    "is a key of a kind that is not supported: use ECDSA P-256 or P-384, RSA or Ed25519".to_owned()
                );
            }
        };
        let bytes = info.subject_public_key.as_bytes().ok_or("is not a public key: it does not end at a byte")?;
        Ok(Self { algorithm, bytes: bytes.to_vec() })
    }

    /// Whether the key's owner has signed this.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn openssl(place: &Path, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(place).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn what_openssl_signs_is_found_good_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        std::fs::write(place.join("text"), b"statement").unwrap();
        for (kind, sign) in [
            ("EC -pkeyopt ec_paramgen_curve:P-256", "dgst -sha256 -sign key -out signature text"),
            ("EC -pkeyopt ec_paramgen_curve:P-384", "dgst -sha256 -sign key -out signature text"),
            ("RSA -pkeyopt rsa_keygen_bits:2048", "dgst -sha256 -sign key -out signature text"),
            ("ED25519", "pkeyutl -sign -inkey key -rawin -in text -out signature"),
        ] {
            openssl(place, &format!("genpkey -algorithm {kind} -out key"));
            openssl(place, "pkey -in key -pubout -out public");
            openssl(place, sign);
            let key = PublicKey::parse(&std::fs::read(place.join("public")).unwrap()).unwrap();
            let signature = std::fs::read(place.join("signature")).unwrap();
            assert!(key.has_signed(b"statement", &signature), "{kind}");
            assert!(!key.has_signed(b"Statement", &signature), "{kind}");
            assert!(!key.has_signed(b"statement", &signature[1..]), "{kind}");
        }
        let private = std::fs::read(place.join("key")).unwrap();
        assert!(PublicKey::parse(&private).err().unwrap().contains("PRIVATE KEY"));
        openssl(place, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key");
        openssl(place, "pkey -in key -pubout -out public");
        let public = std::fs::read(place.join("public")).unwrap();
        assert!(PublicKey::parse(&public).err().unwrap().contains("not supported"));
        assert!(PublicKey::parse(b"").err().unwrap().contains("not PEM"));
    }
}
