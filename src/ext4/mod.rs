//! ext4 images of what a stack shows: a root file system that a virtual machine can boot from and write to.
//!
//! ```text
//! Stack::whole()
//!    │ tree      every inode: what it is, how many names it has
//!    │ plan      how many blocks all of them take; with what is to stay free, how many there are
//!    ▼ write     the image, inode after inode: content, directory, attributes; then what is taken and what is free
//! ```
//!
//! Nothing here does I/O: bytes go to a function that puts them at an offset, and contents are asked of [`Contents`]. What is not
//! put is zeros, so that an image in a sparse file takes little more than its contents. The same stack, contents and options give
//! the same bytes.
//!
//! Why not `mke2fs -d`: it takes owners, modes, devices and attributes from a directory, where an ordinary user cannot have them. They
//! can be set afterwards with scripts for `debugfs`, which cannot name every file, or read from a tar archive, by versions that most
//! systems do not have. And what it writes depends on its version and its configuration.
//!
//! Blocks and inodes are taken in order and none is ever freed, so that one number says which are in use. All blocks of a file,
//! except where a group's own tables are in the way, follow one another. There is no `lost+found`, which the image does not have
//! either: `e2fsck` makes one where it needs it.
//!
//! What is written, field by field, is in docs/formats.md. The source is the kernel's Documentation/filesystems/ext4.

mod contents;
mod directory;
mod error;
mod extents;
mod geometry;
mod inode;
mod journal;
mod options;
mod plan;
mod superblock;
mod tree;
mod write;
mod xattr;

pub use contents::Contents;
pub use error::{Ext4Error, Lost};
pub use options::{Options, Size};
pub use plan::Plan;

/// Bytes of a block.
const BLOCK: u64 = 4096;
