//! The overlay form as the kernel shows it: mounting and unmounting.
//!
//! The kernel's side is described in Documentation/filesystems/overlayfs.rst. layflat's mounts always say
//! `redirect_dir=nofollow` and `metacopy=off`, whatever the kernel's defaults are: a layer's own
//! `trusted.overlay.redirect` could graft any other directory into the tree. They say `userxattr` if and only if the
//! marks are in the `user.` namespace. The kernel takes the three together (since 5.11, where `userxattr` came), and
//! refuses `userxattr` only beside `redirect_dir` being anything but `nofollow`, or `metacopy=on`.
//!
//! Layers are handed over as directory descriptors where the kernel takes them ([`Method`]). That leaves no moment
//! between looking at a directory and mounting it, and no limit on the length or the letters of its name.

mod context;
mod directory;
mod error;
mod fuse;
mod layout;
mod mount;
mod namespace;
mod options;
mod syscall;
mod umount;
mod upper;

pub use directory::LowerDirectory;
pub(crate) use directory::is_mount_point;
pub use error::{LayoutError, MountError, UnmountError};
pub(crate) use layout::read as read_description;
pub(crate) use mount::mount_nowhere;
pub use mount::{Method, MountOptions, MountRequest, Mounted, may_mount, mount, mount_layout};
pub use namespace::in_user_namespace;
pub use options::MOST_LAYERS;
pub use umount::umount;
pub use upper::UpperDirectories;
