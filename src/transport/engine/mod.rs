//! A running Docker or Podman: it gives and takes docker archives.

mod error;
pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
