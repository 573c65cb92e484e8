//! OCI image layouts, as directories and as archives.

pub(in crate::transport) mod archive;
pub(in crate::transport) mod index;
pub(in crate::transport) mod layout;
pub(in crate::transport) mod read;
