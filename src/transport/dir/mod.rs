//! Directories that hold an unpacked `docker save` archive, or an image as skopeo writes it (`dir:`).

pub(in crate::transport) mod read;
pub(in crate::transport) mod write;
