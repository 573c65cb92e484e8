//! Checks that images are signed as the policy requires: with one of its keys, and for the name that was asked for.

use base64::Engine;

use crate::configuration::{Keys, SigstoreSigned};
use crate::core::digest::Digest;
use crate::core::reference::ImageName;
use crate::image::{Image, Manifest};
use crate::sigstore::{PublicKey, Statement};
use crate::transport::source::required::Required;
use crate::transport::source::{SourceError, Tree};

/// A signature as it lies somewhere.
pub(in crate::transport) struct Signed {
    pub(in crate::transport) statement: Vec<u8>,
    /// In base64.
    pub(in crate::transport) signature: Option<String>,
}

/// A place that keeps signatures.
pub(in crate::transport) trait Signatures {
    /// All signatures of the manifest with this digest.
    fn of(&self, manifest: &Digest) -> Result<Vec<Signed>, SourceError>;
}

impl Required {
    /// Checks an image that was asked for by this name.
    pub(in crate::transport) fn check_image(
        &self,
        name: &ImageName,
        image: &Image,
        signatures: &dyn Signatures,
    ) -> Result<(), SourceError> {
        match &image.manifest {
            _ if self.signed.is_empty() => Ok(()),
            Some(manifest) => self.check(name, manifest, signatures),
            None => Err(self.refusal.because("it must be signed, but it has no manifest to sign")),
        }
    }

    /// Checks every image of an index, and what else it lists.
    pub(in crate::transport) fn check_tree(
        &self,
        name: &ImageName,
        tree: &Tree,
        signatures: &dyn Signatures,
    ) -> Result<(), SourceError> {
        match tree {
            _ if self.signed.is_empty() => Ok(()),
            Tree::Image(image) => self.check_image(name, image, signatures),
            Tree::Attachment(attachment) => self.check(name, &attachment.manifest, signatures),
            Tree::Index(index) => index.entries.iter().try_for_each(|entry| self.check_tree(name, entry, signatures)),
        }
    }

    fn check(&self, name: &ImageName, manifest: &Manifest, signatures: &dyn Signatures) -> Result<(), SourceError> {
        let found = signatures.of(&manifest.digest)?;
        for required in &self.signed {
            let keys = self.keys(required)?;
            let judge = |signed: &Signed| judge(signed, &keys, required, name, manifest);
            let mut problems = Vec::new();
            for signed in &found {
                match judge(signed) {
                    Ok(()) => {
                        problems.clear();
                        break;
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            let digest = &manifest.digest;
            match problems.as_slice() {
                [] if found.is_empty() => {
                    return Err(self.refusal.because(format!("it must be signed, and {digest} has no signature")));
                }
                [] => {}
                problems => {
                    let problem = format!("no valid signature of {digest}: {}", problems.join("; "));
                    return Err(self.refusal.because(problem));
                }
            }
        }
        Ok(())
    }

    fn keys(&self, required: &SigstoreSigned) -> Result<Vec<PublicKey>, SourceError> {
        let key = |key: &Keys| {
            let parse = |pem: &[u8], what: &str| {
                PublicKey::parse(pem).map_err(|problem| self.refusal.because(format!("the key {what} {problem}")))
            };
            match key {
                Keys::Text(pem) => parse(pem, "of keyData"),
                Keys::File(path) => {
                    let what = format!("{path:?}");
                    let pem = std::fs::read(path);
                    let pem =
                        pem.map_err(|error| self.refusal.because(format!("the key {what} cannot be read: {error}")))?;
                    parse(&pem, &what)
                }
            }
        };
        required.keys.iter().map(key).collect()
    }
}

/// Whether a signature is good, by one of the keys, and of this image under this name.
fn judge(
    signed: &Signed,
    keys: &[PublicKey],
    required: &SigstoreSigned,
    name: &ImageName,
    manifest: &Manifest,
) -> Result<(), String> {
    let signature = signed.signature.as_ref().ok_or("one lacks the signature itself")?;
    let signature =
        base64::engine::general_purpose::STANDARD.decode(signature).map_err(|_| "one is not base64".to_owned())?;
    if !keys.iter().any(|key| key.has_signed(&signed.statement, &signature)) {
        return Err("one is by another key, or was altered".to_owned());
    }
    let statement = Statement::parse(&signed.statement)?;
    let stated: Option<Digest> = statement.digest.parse().ok();
    if stated.is_none_or(|stated| stated != Digest::of(stated.algorithm(), &manifest.bytes)) {
        return Err(format!("one is of another image, {}", statement.digest));
    }
    if !required.identity.fits(name, &statement.name) {
        return Err(format!("one is for the name {:?}, which does not match {}", statement.name, name.complete()));
    }
    Ok(())
}
