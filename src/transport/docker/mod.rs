//! What `docker save` writes and `docker load` reads.

pub(in crate::transport) mod archive;
pub(in crate::transport) mod read;
pub(in crate::transport) mod saved;
