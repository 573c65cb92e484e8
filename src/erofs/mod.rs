//! EROFS images of what a stack shows, for the kernel to mount: the tree, and the contents of files or where they lie.
//!
//! ```text
//! Stack::whole(), or a layer's Difference
//!    │ plan      every inode: what it is, how many names it has
//!    │ layout    where it lies, and where its directory blocks, link target or content do
//!    ▼ write     the image, as one stream, first byte to last
//! ```
//!
//! Nothing here does I/O: an image goes to a [`Write`](std::io::Write), and what must be known of contents is asked of
//! [`Contents`]. A file's bytes can lie in other files, named at the mount as devices (layers' archives, content files),
//! or in the image itself, which then stands alone. The same stack, contents and options give the same bytes.
//!
//! What is written, field by field, is in docs/formats.md. The sources are the kernel's
//! Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.

mod contents;
mod directory;
mod error;
mod file;
mod inode;
mod layout;
mod options;
mod plan;
mod slots;
mod stream;
mod superblock;
mod times;
mod write;
mod xattr;

pub use contents::{Contents, Piece};
pub use error::{ErofsError, Lost};
pub use options::{BlockSize, Device, Options, Shape};
pub use plan::Plan;
