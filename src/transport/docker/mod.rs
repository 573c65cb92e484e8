//! The format of `docker save` and `docker load`.

pub(in crate::transport) mod archive;
pub(in crate::transport) mod read;
pub(in crate::transport) mod saved;
