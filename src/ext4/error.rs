//! What an image cannot be, and what it cannot hold.

use std::io;

use crate::core::record::LayerPath;
use crate::core::text::Printable;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ext4Error {
    /// The size that was asked for is too small.
    #[error("the file system needs at least {needed} bytes ({} MiB), and was to have {size}", needed.div_ceil(1 << 20))]
    TooSmall {
        /// Bytes that are needed, with nothing free.
        needed: u64,
        /// Bytes that were asked for.
        size: u64,
    },
    /// More than can be addressed.
    #[error("the file system would have {0} bytes; ext4 with blocks of 4096 bytes is written up to 16 TiB here")]
    TooLarge(u64),
    /// More inodes than can be counted.
    #[error("{0} files; an ext4 file system has at most 4294967295 inodes")]
    TooManyInodes(u64),
    /// A file whose end cannot be addressed.
    #[error("{path:?}: a file of {size} bytes; in ext4 with blocks of 4096 bytes it has less than 16 TiB")]
    FileTooLarge {
        /// The file.
        path: LayerPath,
        /// Its size.
        size: u64,
    },
    /// A name or a link's target that is too long for Linux.
    #[error("{path:?}: {what} of {length} bytes; {limit} are possible")]
    TooLong {
        /// The file.
        path: LayerPath,
        /// What is too long.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A file's content cannot be read.
    #[error("cannot read the content of {path:?}")]
    Content {
        /// The file.
        path: LayerPath,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The image cannot be written.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// [`Options::cancel`](super::Options::cancel) was used.
    #[error("interrupted")]
    Cancelled,
}

/// What an image cannot hold of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost<'a> {
    /// An extended attribute, an ACL among them.
    Xattr {
        /// Its name.
        name: &'a [u8],
        /// Why.
        why: &'static str,
    },
    /// A time before 1901 or after 2446.
    Time,
    /// One of more names than a file can have.
    HardLink,
}

impl Lost<'_> {
    /// For a report: which one, and why.
    pub fn detail(&self) -> String {
        match self {
            Self::Xattr { name, why } => format!("{}: {why}", Printable(name)),
            Self::Time => "ext4 holds 1901 to 2446".to_owned(),
            Self::HardLink => "ext4 holds 65000 names of a file".to_owned(),
        }
    }
}
