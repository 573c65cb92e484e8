//! What the administrator's policy requires of an image before it is used. Each requirement is met, or the image is refused: none is passed
//! over.

use std::path::{Path, PathBuf};

use base64::Engine;

use crate::configuration::{Keys, Requirement, SigstoreSigned, Subject, load_policy};
use crate::core::digest::Digest;
use crate::core::reference::{DaemonImage, ImageName};
use crate::image::{Image, Manifest};
use crate::sigstore::{PublicKey, Statement};
use crate::transport::source::{OpenOptions, SourceError, Tree};

/// What must still be shown of an image.
pub(in crate::transport) struct Required {
    signed: Vec<SigstoreSigned>,
    refusal: Refusal,
}

/// A signature as it lies somewhere.
pub(in crate::transport) struct Signed {
    pub(in crate::transport) statement: Vec<u8>,
    /// In base64.
    pub(in crate::transport) signature: Option<String>,
}

/// A place that keeps signatures.
pub(in crate::transport) trait Signatures {
    /// All that it has for the manifest of this digest.
    fn of(&self, manifest: &Digest) -> Result<Vec<Signed>, SourceError>;
}

/// Who decides.
#[derive(Default)]
struct Refusal {
    policy: PathBuf,
    /// Which part of the policy.
    scope: String,
}

impl Refusal {
    fn because(&self, problem: impl Into<String>) -> SourceError {
        SourceError::Policy { policy: self.policy.clone(), scope: self.scope.clone(), problem: problem.into() }
    }
}

/// Refuses an image for which nobody keeps signatures, unless it needs none.
pub(in crate::transport) fn admit(subject: &Subject<'_>, options: &OpenOptions) -> Result<(), SourceError> {
    let required = Required::of(subject, options)?;
    match required.signed.is_empty() {
        true => Ok(()),
        false => Err(required.refusal.because("it must be signed, and signatures are only read from registries")),
    }
}

/// The same, of a file or directory.
pub(in crate::transport) fn admit_path(
    transport: &'static str,
    path: &Path,
    options: &OpenOptions,
) -> Result<(), SourceError> {
    // Standard input has no path, and so only the transport's default.
    match path.canonicalize() {
        Ok(path) if transport != "docker-archive" => admit(&Subject::Path(transport, path), options),
        _ => admit(&Subject::Alone(transport), options),
    }
}

/// The same, of an engine's image.
pub(in crate::transport) fn admit_engine(image: &DaemonImage, options: &OpenOptions) -> Result<(), SourceError> {
    match image {
        DaemonImage::Name(name) => admit(&Subject::Daemon(name), options),
        DaemonImage::Id(id) => admit(&Subject::Id(id), options),
    }
}

impl Required {
    /// What is required of an image. It is refused now if that is known already.
    pub(in crate::transport) fn of(subject: &Subject<'_>, options: &OpenOptions) -> Result<Self, SourceError> {
        let Some((path, policy)) = load_policy(&options.policy)? else {
            return Ok(Self { signed: Vec::new(), refusal: Refusal::default() });
        };
        let (requirements, scope) = policy.requirements(subject);
        let refusal = Refusal { policy: path, scope };
        let mut signed = Vec::new();
        for requirement in requirements {
            match requirement {
                Requirement::Anything => {}
                Requirement::Reject => return Err(refusal.because("it is rejected")),
                Requirement::Sigstore(required) => signed.push(required.clone()),
                Requirement::Unsupported(what) => {
                    let problem = format!("{what}, is required, which layflat cannot verify: check it with skopeo");
                    return Err(refusal.because(problem));
                }
            }
        }
        Ok(Self { signed, refusal })
    }

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
