//! Mounting layers.

use super::context::{self, Failure};
use super::directory::{Directory, LowerDirectory};
use super::erofs::ErofsRequest;
use super::error::MountError;
use super::fuse;
use super::layout;
use super::options::MOST_LAYERS;
use super::syscall;
use super::upper::{OpenUpper, UpperDirectories};
use crate::cache::record_mount;
use crate::core::overlayfs::XattrNamespace;
use crate::lowerdirs::Check;
use crate::userns::in_user_namespace;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What to mount.
#[derive(Debug)]
pub struct MountRequest {
    /// The layers, topmost first.
    pub lower: Vec<LowerDirectory>,
    /// The namespace of the layers' whiteouts.
    pub namespace: XattrNamespace,
    /// How to mount them.
    pub options: MountOptions,
}

/// How to mount. The default is read-only, with devices and setuid as the image has them.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// Makes the mount writable.
    pub upper: Option<UpperDirectories>,
    /// Device nodes do not work.
    pub nodev: bool,
    /// Setuid, setgid and file capabilities do not work.
    pub nosuid: bool,
    /// How the kernel is told; the first that it knows when `None`, or a program where it does not let the caller mount.
    pub method: Option<Method>,
    /// What the mount is called in `/proc/self/mounts`; `layflat` when `None`.
    pub source: Option<String>,
    /// Nothing is recorded in the cache that it is of: other machines may remove what it uses.
    pub unrecorded: bool,
    /// How EROFS images, and what their contents lie in, are checked.
    pub check: Check,
}

/// How the kernel is told of the layers, or which program is. All mount the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// fsconfig(2) with a directory descriptor for each layer: since Linux 6.13.
    FdLayers,
    /// fsconfig(2) with a path for each layer: since Linux 6.8.
    PathLayers,
    /// mount(2) with a page of options.
    MountSyscall,
    /// EROFS images over the files that contents lie in, alone or as layers of an overlay.
    Erofs,
    /// erofsfuse, a program, for one EROFS image.
    Erofsfuse,
    /// fuse-overlayfs, a program: where the kernel has no overlayfs, or none for user namespaces.
    Fuse,
}

/// A mount that was made. It stays when this is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mounted {
    /// How.
    pub method: Method,
    /// Whether it can be written to.
    pub writable: bool,
}

impl MountRequest {
    /// To mount unpacked overlay layers: a directory with a `layflat.json`, as unpacked by this crate.
    ///
    /// # Errors
    /// [`MountError::Layout`], and a layer that cannot be opened or lies behind a symbolic link.
    pub fn of_layout(directory: &Path, options: MountOptions) -> Result<Self, MountError> {
        let (lower, namespace) = layout::open(directory)?;
        Ok(Self { lower, namespace, options })
    }
}

/// Mounts unpacked overlay layers, or EROFS images over contents, as `layflat.json` describes them.
///
/// ```no_run
/// use layflat::mount::{MountOptions, UpperDirectories, umount};
///
/// // `overlay` was made by `layflat::layers`. Without an upper directory the mount is read-only.
/// let upper = UpperDirectories { upper: "changes".into(), work: "work".into() };
/// let options = MountOptions { upper: Some(upper), ..MountOptions::default() };
/// let mounted = layflat::mount_layout("overlay".as_ref(), "mnt".as_ref(), options)?;
/// assert!(mounted.writable);
/// umount("mnt".as_ref(), false)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`MountRequest::of_layout`], [`ErofsRequest::of_layout`] and [`mount`].
pub fn mount_layout(directory: &Path, target: &Path, options: MountOptions) -> Result<Mounted, MountError> {
    if !options.unrecorded {
        record_mount(directory, target);
    }
    mount_for_process(directory, target, options)
}

/// The same, for a mount that goes with a process which holds what it uses: other machines see that by its locks.
pub(crate) fn mount_for_process(directory: &Path, target: &Path, options: MountOptions) -> Result<Mounted, MountError> {
    if layout::read_erofs(directory)?.is_some() {
        return ErofsRequest::of_layout(directory, options)?.mount(target);
    }
    mount(&MountRequest::of_layout(directory, options)?, target)
}

/// Mounts layers on an existing directory. Nothing is mounted, and nothing is left of directories that were made for
/// it, if it fails.
///
/// # Errors
/// All of [`MountError`] but [`MountError::Layout`].
pub fn mount(request: &MountRequest, target: &Path) -> Result<Mounted, MountError> {
    check(request)?;
    let target = open_target(target)?;
    let mut upper = open_upper(request)?;
    let method = try_methods(request, upper.as_ref(), &target)?;
    if let Some(upper) = &mut upper {
        upper.keep();
    }
    Ok(Mounted { method, writable: upper.is_some() })
}

/// An existing directory that nothing is mounted on.
pub(super) fn open_target(target: &Path) -> Result<Directory, MountError> {
    let target = Directory::open(target, "the target")?;
    if target.is_mount_point() {
        return Err(MountError::Busy(target.path().to_owned()));
    }
    Ok(target)
}

/// What [`mount_layout`] mounts, as a mount that is nowhere: to look into through its descriptor, with which it goes, or to
/// see that it can be mounted.
///
/// # Errors
/// As for [`mount_layout`]; there is no other way where the kernel does not know this one.
pub(crate) fn mount_layout_nowhere(directory: &Path, options: MountOptions) -> Result<OwnedFd, MountError> {
    if layout::read_erofs(directory)?.is_some() {
        return ErofsRequest::of_layout(directory, options)?.mount_nowhere();
    }
    mount_nowhere(&MountRequest::of_layout(directory, options)?)
}

pub(super) fn mount_nowhere(request: &MountRequest) -> Result<OwnedFd, MountError> {
    check(request)?;
    let mut upper = open_upper(request)?;
    let create = |method| context::create(request, upper.as_ref(), method);
    let mounted = match create(Method::FdLayers) {
        Err(Failure::Unknown(_)) => create(Method::PathLayers),
        other => other,
    };
    let mounted = mounted.map_err(|(Failure::Unknown(error) | Failure::Final(error))| error)?;
    if let Some(upper) = &mut upper {
        upper.keep();
    }
    Ok(mounted)
}

fn open_upper(request: &MountRequest) -> Result<Option<OpenUpper>, MountError> {
    let open = |upper| OpenUpper::open(upper, &request.lower, request.namespace);
    request.options.upper.as_ref().map(open).transpose()
}

/// What needs no kernel to be seen.
fn check(request: &MountRequest) -> Result<(), MountError> {
    let layers = request.lower.len();
    let fewest = if request.options.upper.is_some() { 1 } else { 2 };
    if layers < fewest {
        return Err(MountError::TooFewLayers(layers));
    }
    if layers > MOST_LAYERS {
        return Err(MountError::TooManyLayers(layers));
    }
    if request.namespace == XattrNamespace::Trusted && in_user_namespace() {
        // The mount would succeed, and lie.
        return Err(MountError::WhiteoutsIgnored);
    }
    Ok(())
}

/// Tries the ways that a kernel may not know, newest first, and the one that all know last.
fn try_methods(request: &MountRequest, upper: Option<&OpenUpper>, target: &Directory) -> Result<Method, MountError> {
    let all = [Method::FdLayers, Method::PathLayers, Method::MountSyscall];
    let methods = request.options.method.as_ref().map_or(&all[..], std::slice::from_ref);
    let mut refused = None;
    for &method in methods {
        let attempt = match method {
            Method::FdLayers | Method::PathLayers => context::mount(request, upper, target, method),
            Method::MountSyscall => syscall::mount(request, upper, target),
            Method::Fuse => fuse::mount(request, upper, target),
            Method::Erofs => Err(Failure::Final(MountError::NoErofs("these layers are unpacked".to_owned()))),
            Method::Erofsfuse => {
                Err(Failure::Final(MountError::NoErofsfuse("mounts images, and these layers are unpacked".to_owned())))
            }
        };
        match attempt {
            Ok(()) => return Ok(method),
            Err(Failure::Unknown(error)) => refused = Some(error),
            Err(Failure::Final(error)) => {
                refused = Some(error);
                break;
            }
        }
    }
    // the list is never empty
    let error = refused.unwrap_or(MountError::NoOverlayfs);
    if request.options.method.is_none() && is_beyond_the_kernel(&error) {
        return match fuse::mount(request, upper, target) {
            Ok(()) => Ok(Method::Fuse),
            Err(Failure::Unknown(fuse) | Failure::Final(fuse)) => Err(MountError::neither(error, fuse::PROGRAM, fuse)),
        };
    }
    Err(error)
}

/// Whether another kernel would have mounted: this one has no overlayfs, or refuses it to those who are root in a user
/// namespace alone.
fn is_beyond_the_kernel(error: &MountError) -> bool {
    match error {
        MountError::NoOverlayfs => true,
        MountError::NotPermitted => in_user_namespace() && rustix::process::geteuid().is_root(),
        _ => false,
    }
}

/// Whether this process may mount overlays at all, by any way but fuse-overlayfs.
///
/// # Errors
/// [`MountError::NotPermitted`] and [`MountError::NoOverlayfs`].
pub fn may_mount() -> Result<(), MountError> {
    match context::may_open() {
        Err(error) if !is_beyond_the_kernel(&error) => Err(error),
        _ => Ok(()),
    }
}
