//! Enforces the administrator's policy: an image meets every requirement, or it is refused.

use std::path::{Path, PathBuf};

use crate::configuration::{Requirement, SigstoreSigned, Subject, load_policy};
use crate::core::reference::DaemonImage;
use crate::transport::source::{OpenOptions, SourceError};

/// What must still be shown of an image.
pub(in crate::transport) struct Required {
    pub(super) signed: Vec<SigstoreSigned>,
    pub(super) refusal: Refusal,
}

/// The policy file and the scope that decide.
#[derive(Default)]
pub(super) struct Refusal {
    policy: PathBuf,
    /// Which part of the policy.
    scope: String,
}

impl Refusal {
    pub(super) fn because(&self, problem: impl Into<String>) -> SourceError {
        SourceError::Policy { policy: self.policy.clone(), scope: self.scope.clone(), problem: problem.into() }
    }
}

/// Refuses an image whose source has no signatures, unless the policy requires none.
pub(in crate::transport) fn admit(subject: &Subject<'_>, options: &OpenOptions) -> Result<(), SourceError> {
    let required = Required::of(subject, options)?;
    match required.signed.is_empty() {
        true => Ok(()),
        false => Err(required.refusal.because("it must be signed, and signatures are only read from registries")),
    }
}

/// Applies the policy to an image in a file or directory.
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

/// Applies the policy to an image of an engine.
pub(in crate::transport) fn admit_engine(image: &DaemonImage, options: &OpenOptions) -> Result<(), SourceError> {
    match image {
        DaemonImage::Name(name) => admit(&Subject::Daemon(name), options),
        DaemonImage::Id(id) => admit(&Subject::Id(id), options),
    }
}

impl Required {
    /// The requirements for an image. An image that can never meet them is refused at once.
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
}
