//! What a caller decides about an image.

use crate::core::cancel::Cancel;

/// How large the file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// As large as it must be, and a quarter of that more, at least 64 MiB.
    #[default]
    Automatic,
    /// So many bytes in all.
    Total(u64),
    /// So many bytes that are free for files.
    Free(u64),
}

/// How an image is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How large it is.
    pub size: Size,
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// What the hashes of names in large directories begin with.
    pub hash_seed: [u8; 16],
    /// The file system's label: at most 16 bytes, what is longer is cut off.
    pub label: Vec<u8>,
    /// Whether `security.selinux` is written (rule A3).
    pub selinux: bool,
    /// Set from elsewhere to stop early.
    pub cancel: Cancel,
}
