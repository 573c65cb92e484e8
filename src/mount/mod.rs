//! Mounts and unmounts overlay layers.
//!
//! The kernel's side is described in Documentation/filesystems/overlayfs.rst. layflat's mounts always say
//! `redirect_dir=nofollow` and `metacopy=off`, whatever the kernel's defaults are: a layer's own
//! `trusted.overlay.redirect` could graft any other directory into the tree. They say `userxattr` if and only if the
//! whiteouts are in the `user.` namespace. The kernel takes the three together (since 5.11, where `userxattr` came),
//! and refuses `userxattr` only beside `redirect_dir` being anything but `nofollow`, or `metacopy=on`.
//!
//! Layers are handed over as directory descriptors where the kernel takes them ([`Method`]). That leaves no moment
//! between looking at a directory and mounting it, and no limit on the length or the letters of its name.
//!
//! EROFS images over contents are mounted alone, or as such layers ([`ErofsRequest`]); for users whom the kernel lets mount nothing by erofsfuse,
//! a program.

mod context;
mod directory;
mod erofs;
mod erofsfuse;
mod error;
mod fuse;
mod layout;
mod options;
mod request;
mod syscall;
mod umount;
mod upper;

pub use directory::LowerDirectory;
pub(crate) use directory::is_mount_point;
pub use erofs::{ErofsImage, ErofsRequest};
pub use erofsfuse::may_use_erofsfuse;
pub use error::{MountError, UnmountError};
pub use options::MOST_LAYERS;
pub use request::{Method, MountOptions, MountRequest, Mounted, may_mount, mount, mount_layout};
pub(crate) use request::{mount_for_process, mount_layout_nowhere};
pub use umount::umount;
pub use upper::UpperDirectories;
