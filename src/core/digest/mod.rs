//! Digests as descriptors have them: `sha256:<hex>` and `sha512:<hex>` (image specification, descriptor.md).

#[expect(clippy::module_inception, reason = "the type that the room is named for")]
mod digest;
mod hasher;

pub use digest::{Algorithm, Digest, DigestError};
pub(crate) use hasher::Hasher;
