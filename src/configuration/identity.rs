//! Checks that a signature is for the image that was asked for: a valid signature of another image proves nothing.

use serde::Deserialize;

use crate::core::reference::ImageName;

/// How the name in a signature must fit to the name of the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Identity {
    /// The same name and tag.
    MatchExact {},
    /// The same name and tag, or, of an image that was asked for by its digest, the same repository. So it is if
    /// nothing is said.
    MatchRepoDigestOrExact {},
    /// The same repository.
    MatchRepository {},
    /// This name, whatever the image is called.
    ExactReference {
        /// With a tag or a digest.
        docker_reference: String,
    },
    /// This repository, whatever the image is called.
    ExactRepository {
        /// Without a tag.
        docker_repository: String,
    },
    /// As by default, after the beginning of the image's name was exchanged.
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    Remap {
        /// What the name begins with.
        prefix: String,
        /// What the signature's begins with.
        signed_prefix: String,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

impl Identity {
    /// Refuses what can never fit.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = |text: &str| text.parse::<ImageName>().map_err(|error| format!("has a signedIdentity: {error}"));
        match self {
            Self::ExactReference { docker_reference } if is_bare(&name(docker_reference)?) => {
                Err(format!("has a signedIdentity: {docker_reference:?} needs a tag or a digest"))
            }
            Self::ExactRepository { docker_repository } if !is_bare(&name(docker_repository)?) => {
                Err(format!("has a signedIdentity: {docker_repository:?} must have neither tag nor digest"))
            }
            Self::Remap { prefix, signed_prefix } if prefix.is_empty() || signed_prefix.is_empty() => {
                Err("has a signedIdentity: remapIdentity with an empty prefix".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether a signature for the name `signed` is good for the image `asked`.
    pub(crate) fn fits(&self, asked: &ImageName, signed: &str) -> bool {
        let Ok(signed) = signed.parse::<ImageName>() else { return false };
        match self {
            Self::MatchExact {} => exact(&asked.complete(), &signed),
            Self::MatchRepoDigestOrExact {} => exact_or_digest(asked, &signed),
            Self::MatchRepository {} => same_repository(asked, &signed),
            Self::ExactReference { docker_reference } => {
                docker_reference.parse().is_ok_and(|expected| exact(&expected, &signed))
            }
            Self::ExactRepository { docker_repository } => {
                docker_repository.parse().is_ok_and(|expected| same_repository(&expected, &signed))
            }
            Self::Remap { prefix, signed_prefix } => {
                let whole = asked.complete().to_string();
                let rest = whole.strip_prefix(prefix.as_str());
                let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with([':', '/', '@']));
                let expected = rest.map_or_else(|| whole.clone(), |rest| format!("{signed_prefix}{rest}"));
                expected.parse().is_ok_and(|expected| exact_or_digest(&expected, &signed))
            }
        }
    }
}

fn is_bare(name: &ImageName) -> bool {
    name.tag().is_none() && name.digest().is_none()
}

fn same_repository(one: &ImageName, other: &ImageName) -> bool {
    (one.registry(), one.repository()) == (other.registry(), other.repository())
}

/// No tag is made up for a signature that has none.
fn exact(one: &ImageName, signed: &ImageName) -> bool {
    !is_bare(signed) && one == signed
}

fn exact_or_digest(asked: &ImageName, signed: &ImageName) -> bool {
    if is_bare(signed) {
        return false;
    }
    match asked.digest() {
        // That the signature is for this digest is checked in any case.
        Some(_) if asked.tag().is_none() => same_repository(asked, signed),
        _ => exact(&asked.complete(), signed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(json: &str) -> Identity {
        let identity: Identity = serde_json::from_str(json).unwrap();
        identity.check().unwrap();
        identity
    }

    #[test]
    fn identities_fit_as_the_policy_says() {
        let digest = format!("a.io/x@sha256:{}", "0".repeat(64));
        let other = format!("a.io/x@sha256:{}", "1".repeat(64));
        let exact = r#"{"type":"matchExact"}"#;
        let either = r#"{"type":"matchRepoDigestOrExact"}"#;
        let repository = r#"{"type":"matchRepository"}"#;
        let reference = r#"{"type":"exactReference","dockerReference":"b.io/y:2"}"#;
        let this_repository = r#"{"type":"exactRepository","dockerRepository":"b.io/y"}"#;
        let remap = r#"{"type":"remapIdentity","prefix":"mirror.io/a","signedPrefix":"a.io"}"#;
        for (json, asked, signed, expected) in [
            (exact, "a.io/x:1", "a.io/x:1", true),
            (exact, "a.io/x", "a.io/x:latest", true),
            (exact, "a.io/x", "a.io/x", false),
            (exact, "a.io/x:1", "a.io/x:2", false),
            (exact, &digest, "a.io/x:1", false),
            (exact, &digest, &digest, true),
            (either, "a.io/x:1", "a.io/x:1", true),
            (either, "a.io/x:1", "a.io/x", false),
            (either, &digest, "a.io/x:1", true),
            (either, &digest, &other, true),
            (either, &digest, "a.io/x", false),
            (either, &digest, "a.io/y:1", false),
            (repository, "a.io/x:1", "a.io/x", true),
            (repository, "a.io/x:1", "a.io/x:2", true),
            (repository, "a.io/x:1", "a.io/y", false),
            (repository, "alpine", "docker.io/library/alpine:3", true),
            (reference, "a.io/x:1", "b.io/y:2", true),
            (reference, "a.io/x:1", "b.io/y:1", false),
            (this_repository, "a.io/x:1", "b.io/y:1", true),
            (this_repository, "a.io/x:1", "a.io/x:1", false),
            (remap, "mirror.io/a/x:1", "a.io/x:1", true),
            (remap, "mirror.io/ab/x:1", "mirror.io/ab/x:1", true),
            (remap, "mirror.io/a/x:1", "mirror.io/a/x:1", false),
            (repository, "a.io/x:1", "No Name", false),
        ] {
            assert_eq!(identity(json).fits(&asked.parse().unwrap(), signed), expected, "{json} {asked} {signed}");
        }
    }
}
