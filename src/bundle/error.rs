//! Errors of making and opening runtime bundles.

use crate::core::text::Printable;
use crate::metadata::MetadataError;
use crate::mount::{MountError, UnmountError};
use crate::unpack::Error;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why a bundle cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The image cannot be unpacked.
    #[error(transparent)]
    Image(#[from] Error),
    /// It cannot be made ready for mounting.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Its layers cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its root file system cannot be unmounted.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// The image names no program to run.
    #[error("the image has neither an Entrypoint nor a Cmd: specify the program to run")]
    NoCommand,
    /// An empty entrypoint drops the image's Cmd too.
    #[error("an empty entrypoint leaves nothing to run, since it also drops the image's Cmd: specify the program")]
    EntrypointOnly,
    /// A program without a name.
    #[error("the program to run has an empty name: choose another")]
    EmptyProgram,
    /// A string with a NUL byte, which the kernel cannot take.
    #[error("{what} {text:?} contains a NUL byte, which cannot be passed to a program")]
    Nul {
        /// What it is for.
        what: &'static str,
        /// As the image or the caller states it.
        text: String,
    },
    /// The working directory is a file.
    #[error("the working directory {path:?} is not a directory in the image; choose another")]
    NotADirectory {
        /// The path in the container.
        path: String,
    },
    /// The image has no such user.
    #[error("the image runs as user {wanted:?}, but its /etc/passwd has no user {name:?}; choose another")]
    NoSuchUser {
        /// As the image or the caller says it.
        wanted: String,
        /// The user.
        name: String,
    },
    /// The image has no such group.
    #[error("the image runs as user {wanted:?}, but its /etc/group has no group {name:?}; choose another")]
    NoSuchGroup {
        /// As the image or the caller says it.
        wanted: String,
        /// The group.
        name: String,
    },
    /// A user that the container's namespace does not have.
    #[error("the process runs as {id}, which is not in the map {map}; choose another user, or a larger map")]
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
    #[error("{what} {:?} is not an absolute path in the container", .path)]
    Relative {
        /// What it is for.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A file of the bundle cannot be written or read.
    #[error("cannot {action} {}", printable(.path))]
    File {
        /// The attempted action.
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
    /// The layers of an overlay bundle are not what they were.
    #[error(
        "{} needs the layers in {}, which are damaged ({problem}): mount its image once with `layflat mount`, which unpacks \
         them anew, or make the bundle again",
        printable(.bundle),
        printable(.layers)
    )]
    LayersDamaged {
        /// The bundle.
        bundle: PathBuf,
        /// Its layers.
        layers: PathBuf,
        /// What is wrong with them.
        problem: String,
    },
    /// The layers of an overlay bundle are gone.
    #[error(
        "{} needs the layers in {}, which do not exist any more: remove the bundle and make it again",
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
