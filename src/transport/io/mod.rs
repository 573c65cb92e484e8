//! Files and archives that the formats share: finding files in them, spooling, writing archives and directories.

pub(in crate::transport) mod files;
pub(in crate::transport) mod spool;
pub(in crate::transport) mod staging;
pub(in crate::transport) mod tarball;
