//! The Docker or Podman daemon as a source and a destination: both exchange docker archives with it.

mod error;
pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
