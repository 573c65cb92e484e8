//! Why there is no bundle.

use crate::core::text::Printable;
use crate::mount::{MountError, UnmountError};
use crate::unpack::Error;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why no bundle was made, or none can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The image cannot be laid down.
    #[error(transparent)]
    Image(#[from] Error),
    /// Its layers cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its root file system cannot be unmounted.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// A container runs a program.
    #[error("the image says nothing of what to run (neither Entrypoint nor Cmd): name it (--arg /bin/sh)")]
    NoCommand,
    /// The image's Cmd goes with its Entrypoint.
    #[error(
        "--entrypoint \"\" leaves nothing to run, since the image's Cmd goes with its Entrypoint: name the program (--arg /bin/sh)"
    )]
    EntrypointOnly,
    /// A program without a name.
    #[error("the program to run has an empty name: choose another (--entrypoint /bin/sh)")]
    EmptyProgram,
    /// What the kernel cannot be told.
    #[error("{what} {text:?} has a NUL in it, which no program can be given")]
    Nul {
        /// What it is for.
        what: &'static str,
        /// As the image or the caller states it.
        text: String,
    },
    /// A file where the process is to run.
    #[error("the working directory {path:?} is not a directory in the image; choose another (--cwd)")]
    NotADirectory {
        /// The path in the container.
        path: String,
    },
    /// The image has no such user.
    #[error("the image is for user {wanted:?}, but its /etc/passwd has no user {name:?}; choose another (--user)")]
    NoSuchUser {
        /// As the image or the caller says it.
        wanted: String,
        /// The user.
        name: String,
    },
    /// The image has no such group.
    #[error("the image is for user {wanted:?}, but its /etc/group has no group {name:?}; choose another (--user)")]
    NoSuchGroup {
        /// As the image or the caller says it.
        wanted: String,
        /// The group.
        name: String,
    },
    /// A user that the container's namespace does not have.
    #[error(
        "the process is to be {id}, an id that the map {map} does not have; choose a user that it has (--user 0), or widen it (--uid-map, --gid-map)"
    )]
    NotMapped {
        /// `user 5` or `group 5`.
        id: String,
        /// The map.
        map: crate::core::idmap::IdMap,
    },
    /// A file of the image cannot be read.
    #[error("cannot read {} in the image", Printable(.path.as_bytes()))]
    Rootfs {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A path in the container that is not absolute.
    #[error("{what} {:?} is no absolute path in the container", .path)]
    Relative {
        /// What it is for.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A file of the bundle cannot be written or read.
    #[error("cannot {action} {}", printable(.path))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bundle's own description, or the runtime configuration, is not what it should be.
    #[error("{} cannot be read or written as JSON", printable(.path))]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A bundle that is in use cannot be replaced.
    #[error("{} is a bundle whose root file system is mounted: `layflat umount` it first", printable(.0))]
    Mounted(PathBuf),
    /// The layers of an overlay bundle are gone.
    #[error(
        "{} needs the layers in {}, which are gone: remove the bundle and make it again",
        printable(.bundle),
        printable(.layers)
    )]
    LayersGone {
        /// The bundle.
        bundle: PathBuf,
        /// Its layers.
        layers: PathBuf,
    },
}

fn printable(path: &Path) -> String {
    Printable(path.as_os_str().as_bytes()).to_string()
}
