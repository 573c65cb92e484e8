//! Registries, which speak the distribution specification.

pub(in crate::transport) mod error;
pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
