//! Registries (distribution specification) as a source and a destination.

pub(in crate::transport) mod error;
pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
