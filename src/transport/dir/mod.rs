//! Directories as an unpacked `docker save` or as skopeo writes them.

pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
