//! Why a mount or an unmount did not happen.

use super::options::MOST_LAYERS;
use crate::core::text::Printable;
use rustix::io::Errno;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Fewer layers than overlayfs mounts.
    #[error(
        "{0} layers cannot be mounted: without an upper directory overlayfs wants two (add an empty directory), with \
         one it wants at least one"
    )]
    TooFewLayers(usize),
    /// More layers than overlayfs mounts.
    #[error("{0} layers cannot be mounted: overlayfs takes at most {MOST_LAYERS}; flatten the image instead")]
    TooManyLayers(usize),
    /// `trusted.overlay.*` marks in a user namespace, where overlayfs does not see them.
    #[error(
        "the layers' marks are trusted.overlay.* attributes, which overlayfs ignores in a user namespace: deleted files \
         would come back. Lay the image down with `--xattr-namespace user`"
    )]
    MarksIgnored,
    /// Only a namespace's own administrator may mount in it.
    #[error(
        "not permitted to mount. As an ordinary user, mount in a user namespace, where the mount is seen by what runs in \
         there: `layflat unshare --mount DEST:TARGET`"
    )]
    NotPermitted,
    /// The kernel knows no overlayfs.
    #[error("this kernel has no overlayfs (try `modprobe overlay`)")]
    NoOverlayfs,
    /// The kernel cannot, and there is nothing else.
    #[error("there is no fuse-overlayfs, which mounts where the kernel cannot (package fuse-overlayfs)")]
    NoFuse,
    /// The kernel cannot, and the other way fails, too.
    #[error("{kernel}; and fuse-overlayfs does not do it either: {fuse}")]
    NeitherWay {
        /// What the kernel says.
        kernel: Box<MountError>,
        /// What fuse-overlayfs says.
        fuse: Box<MountError>,
    },
    /// Something is mounted there already.
    #[error("something is mounted on {} already, and would be hidden: unmount it, or choose another directory", printable(.0))]
    Busy(PathBuf),
    /// A directory cannot be used.
    #[error("cannot {action} {what} {}", printable(.path))]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The directory's part in the mount.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Changes would go into a layer.
    #[error("{} lies in the layer {}: changes would become part of it", printable(.path), printable(.layer))]
    InsideLayer {
        /// The upper or work directory.
        path: PathBuf,
        /// The layer.
        layer: PathBuf,
    },
    /// The kernel refused the mount.
    #[error("the kernel refuses {step}: {}{}", explain(*.errno, .log), hint(*.errno, .log))]
    Refused {
        /// What it refused.
        step: String,
        /// Its error number.
        errno: Errno,
        /// What it says besides; may be empty.
        log: String,
    },
    /// mount(2) takes a page of options, and even the shortest names do not fit.
    #[error("the mount options take {0} bytes, mount(2) takes 4095; a kernel from 6.8 on has no such limit")]
    OptionsTooLong(usize),
    /// What is to be mounted is no overlay form.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why a directory is no overlay form that can be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There is no description.
    #[error("{} is not there: only what `layflat layers` made can be mounted", printable(.path))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The description cannot be read.
    #[error("cannot read {}", printable(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The description is none.
    #[error("{} does not describe an overlay form", printable(.path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The description is another program's, or a later layflat's.
    #[error(
        "{} describes the form {form:?} in format {format}; this version of layflat knows \"overlay\" in format 1",
        printable(.path)
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The form it describes.
        form: String,
        /// Its format.
        format: u32,
    },
    /// A layer that may lie elsewhere.
    #[error("{} names the layer {name:?}: not a plain relative path below it", printable(.path))]
    Outside {
        /// The file.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// A layer is not what was laid down.
    #[error(
        "{} was changed since {} was written: what would be mounted is not the image; lay it down again",
        printable(.changed),
        printable(.path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The directory in which names were added or removed.
        changed: PathBuf,
    },
}

/// Why nothing was unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnmountError {
    /// The target cannot be looked at.
    #[error("cannot look at {}", printable(.path))]
    Target {
        /// The target.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Nothing is mounted there.
    #[error("{} is not a mount point", printable(.0))]
    NotAMountPoint(PathBuf),
    /// Something else is mounted there.
    #[error("{} is a mount point, but not of an overlay: use umount", printable(.0))]
    NotAnOverlay(PathBuf),
    /// Files in it are open, or it is someone's working directory, or something is mounted in it.
    #[error("{} is in use; end what uses it, or detach it now and let it go later (--lazy)", printable(.0))]
    Busy(PathBuf),
    /// Only a namespace's own administrator may unmount in it.
    #[error("not permitted to unmount {}: it takes the rights, and the namespaces, in which it was mounted", printable(.0))]
    NotPermitted(PathBuf),
    /// Anything else.
    #[error("cannot unmount {}", printable(.path))]
    Refused {
        /// The target.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

pub(super) fn printable(path: &Path) -> String {
    Printable(path.as_os_str().as_bytes()).to_string()
}

/// The kernel's own words, if it has any, and the error's name.
fn explain(errno: Errno, log: &str) -> String {
    let error = io::Error::from(errno);
    if log.is_empty() { error.to_string() } else { format!("{log} ({error})") }
}

/// What an error most likely means where the kernel does not say it: mount(2) has only its log, which few may read.
fn hint(errno: Errno, log: &str) -> &'static str {
    match errno {
        _ if !log.is_empty() => "",
        Errno::LOOP => "; two of the directories are one, or one lies in another",
        Errno::BUSY => "; the upper or work directory belongs to another mount",
        Errno::STALE => "; the upper directory was used with other layers",
        _ => "",
    }
}
