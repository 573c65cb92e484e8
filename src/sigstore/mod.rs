//! Verifies signatures made by `cosign sign --key`: a signed statement about an image's digest, stored in the image's
//! repository under the tag `sha256-<hex>.sig`. Nothing here does I/O.

mod key;
mod statement;

use crate::core::digest::Digest;

pub(crate) use key::PublicKey;
pub(crate) use statement::Statement;

/// The media type of a statement.
pub(crate) const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of its layer that holds the signature, in base64.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The tag under which the signatures of an image are kept.
pub(crate) fn tag(digest: &Digest) -> String {
    format!("{}.sig", digest.as_tag())
}
