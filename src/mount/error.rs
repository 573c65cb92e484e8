//! Errors of mounting and unmounting.

use super::options::MOST_LAYERS;
use crate::core::chain::Chain;
use crate::core::text::Printable;
use crate::lowerdirs::LayoutError;
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
        "{0} layers cannot be mounted: overlayfs needs at least two layers (add an empty directory), or one with \
         an upper directory"
    )]
    TooFewLayers(usize),
    /// More layers than overlayfs mounts.
    #[error("{0} layers cannot be mounted: overlayfs takes at most {MOST_LAYERS}; flatten the image instead")]
    TooManyLayers(usize),
    /// `trusted.overlay.*` whiteouts in a user namespace, where overlayfs does not see them.
    #[error(
        "the layers have whiteouts and opaque directories in trusted.overlay.* attributes, which overlayfs ignores in a user \
         namespace: deleted files would reappear. The layers must be unpacked again, for the namespace `user`"
    )]
    WhiteoutsIgnored,
    /// Only a namespace's own administrator may mount in it.
    #[error(
        "not permitted to mount. As an ordinary user, mount in a user namespace; only programs in it see the mount"
    )]
    NotPermitted,
    /// The kernel knows no overlayfs.
    #[error("this kernel has no overlayfs (try `modprobe overlay`)")]
    NoOverlayfs,
    /// The kernel cannot mount an EROFS image from files here.
    #[error("EROFS cannot be used: {0}")]
    NoErofs(String),
    /// Every byte of an archive in place was to be checked, which only the image knows.
    #[error(
        "{} is an archive that is used in place: its bytes can be checked against the image alone, so mount that in place",
        printable(.0)
    )]
    NotMeasured(PathBuf),
    /// Somebody else could change what an EROFS mount shows.
    #[error(transparent)]
    Unguarded(#[from] crate::fs::Unguarded),
    /// erofsfuse cannot be used, or not for this.
    #[error("erofsfuse {0}")]
    NoErofsfuse(String),
    /// Images that erofsfuse reads wrong, without an error.
    #[error("erofsfuse would misread these EROFS images, which are for the kernel")]
    NotForErofsfuse,
    /// A program that mounts has failed.
    #[error("{program} failed: {}", if .said.is_empty() { "it does not say why" } else { .said })]
    Program {
        /// Which one.
        program: &'static str,
        /// What it says.
        said: String,
    },
    /// The kernel cannot, and there is nothing else.
    #[error("fuse-overlayfs is not installed (package fuse-overlayfs); it is needed where the kernel cannot mount")]
    NoFuse,
    /// The kernel cannot, and the other way fails, too.
    #[error("{}; {program} does not help", Chain(.kernel.as_ref()))]
    NeitherWay {
        /// What the kernel says.
        kernel: Box<MountError>,
        /// The program that was to mount instead.
        program: &'static str,
        /// Why it does not.
        #[source]
        fuse: Box<MountError>,
    },
    /// Something is mounted there already.
    #[error("something is already mounted on {}: unmount it, or choose another directory", printable(.0))]
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
    #[error("{} is inside the layer {}: changes would become part of that layer", printable(.path), printable(.layer))]
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
    #[error("the mount options need {0} bytes, but mount(2) takes 4095; Linux 6.8 and newer has no such limit")]
    OptionsTooLong(usize),
    /// What is to be mounted is not a directory of unpacked overlay layers.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl MountError {
    /// What the kernel says, and what a program does that was to mount instead.
    pub(crate) fn neither(kernel: Self, program: &'static str, fuse: Self) -> Self {
        Self::NeitherWay { kernel: Box::new(kernel), program, fuse: Box::new(fuse) }
    }
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
    #[error("{} is a mount point, but of neither an overlay nor EROFS: use umount", printable(.0))]
    NotAnOverlay(PathBuf),
    /// Files in it are open, or it is someone's working directory, or something is mounted in it.
    #[error("{} is in use; stop the programs that use it", printable(.0))]
    Busy(PathBuf),
    /// Only a namespace's own administrator may unmount in it.
    #[error("not permitted to unmount {}: unmount it as the user and in the namespaces that mounted it", printable(.0))]
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
        _ if log.contains("not supported as upperdir") => "; use a directory on ext4, xfs, btrfs or tmpfs",
        _ if !log.is_empty() => "",
        Errno::LOOP => "; two of the directories are one, or one lies in another",
        Errno::BUSY => "; the upper or work directory belongs to another mount",
        Errno::STALE => "; the upper directory was used with other layers",
        _ => "",
    }
}
