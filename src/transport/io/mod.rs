//! What the formats share: finding files, spooling streams, writing archives and directories.

pub(in crate::transport) mod files;
pub(in crate::transport) mod spool;
pub(in crate::transport) mod staging;
pub(in crate::transport) mod tarball;
