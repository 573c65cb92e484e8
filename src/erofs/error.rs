//! What an image cannot be, and what it cannot hold.

use std::io;

use crate::core::record::LayerPath;
use crate::core::text::Printable;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsError {
    /// Addresses are of 32 bits. The kernel calls those of 48 bits experimental.
    #[error(
        "the image and its devices have {bytes} bytes together; EROFS with blocks of {block} bytes addresses at most {limit}"
    )]
    TooLarge {
        /// What they have.
        bytes: u64,
        /// The size of a block.
        block: u64,
        /// What can be addressed.
        limit: u64,
    },
    /// Devices are counted in 16 bits, and those that erofsfuse has room for are fewer.
    #[error("contents lie in {devices} files; an EROFS image{} has at most {limit}", if *.limit < 65_535 { " for erofsfuse" } else { "" })]
    TooManyDevices {
        /// How many there are.
        devices: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A piece in a device that is not a whole number of blocks.
    #[error(
        "{path:?}: its content from byte {logical} on is at byte {offset} of device {device}: not a multiple of {block} \
         bytes, so that the kernel cannot address it there"
    )]
    Unaligned {
        /// The file.
        path: LayerPath,
        /// Where in the file the piece begins.
        logical: u64,
        /// Which device.
        device: u16,
        /// Where in the device the piece begins.
        offset: u64,
        /// The size of a block.
        block: u64,
    },
    /// Pieces that cannot be those of the file.
    #[error("{path:?}: {problem}")]
    Pieces {
        /// The file.
        path: LayerPath,
        /// What is wrong with them.
        problem: String,
    },
    /// A sparse file that takes too many addresses.
    #[error(
        "{path:?}: its data and holes alternate so finely that {chunks} addresses are needed to point at its data; at most \
         {limit} are written"
    )]
    TooFragmented {
        /// The file.
        path: LayerPath,
        /// Addresses needed.
        chunks: u64,
        /// Addresses that are written at most.
        limit: u64,
    },
    /// More attributes than an inode can have.
    #[error("{path:?}: its extended attributes take {bytes} bytes; an EROFS inode has room for {limit}")]
    Xattrs {
        /// The file.
        path: LayerPath,
        /// Bytes needed.
        bytes: usize,
        /// Bytes there are.
        limit: usize,
    },
    /// More inodes than can be placed.
    #[error("the metadata of all files takes more than {limit} bytes")]
    TooManyInodes {
        /// Bytes there are.
        limit: u64,
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
    /// A device 0:0 in a layer for overlayfs (rule A6).
    WhiteoutDevice,
    /// A fraction of a second, which the image has and erofsfuse does not show.
    Time,
}

impl Lost<'_> {
    /// For a report: which one, and why.
    pub fn detail(&self) -> String {
        match self {
            Self::Xattr { name, why } => format!("{}: {why}", Printable(name)),
            Self::WhiteoutDevice => String::new(),
            Self::Time => "erofsfuse shows whole seconds".to_owned(),
        }
    }
}
