//! Mounts with mount(2), for kernels without the new mount API: all options in one string of at most a page.

use super::context::Failure;
use super::directory::Directory;
use super::error::MountError;
use super::options::{MOST_OPTIONS, option_string};
use super::request::MountRequest;
use super::upper::OpenUpper;
use crate::parallel;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

/// What the mount is called in /proc/self/mounts, where a device would stand.
pub(super) const SOURCE: &str = "layflat";

/// Mounts with as long names of the directories as fit.
pub(super) fn mount(request: &MountRequest, upper: Option<&OpenUpper>, target: &Directory) -> Result<(), Failure> {
    let paths = options(request, upper, |directory| {
        let path = std::path::absolute(directory.path()).unwrap_or_else(|_| directory.path().to_owned());
        path.as_os_str().as_bytes().to_vec()
    });
    if paths.len() <= MOST_OPTIONS {
        return call(request, upper, target, paths);
    }
    let numbers = options(request, upper, |directory| directory.as_fd().as_raw_fd().to_string().into_bytes());
    if numbers.len() > MOST_OPTIONS {
        return Err(Failure::Final(MountError::OptionsTooLong(numbers.len())));
    }
    // Relative to /proc/self/fd the number of a descriptor is a path. The working directory is a process's, but a
    // thread may part with it.
    let refused =
        |step: &str, errno| Failure::Final(MountError::Refused { step: step.to_owned(), errno, log: String::new() });
    parallel::elsewhere(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .map_err(|errno| refused("a working directory of its own", Errno::from_raw_os_error(errno as i32)))?;
        rustix::process::chdir("/proc/self/fd").map_err(|errno| refused("/proc/self/fd", errno))?;
        call(request, upper, target, numbers)
    })
    .unwrap_or_else(|error| Err(refused("a thread", Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))))
}

fn options(request: &MountRequest, upper: Option<&OpenUpper>, name: impl Fn(&Directory) -> Vec<u8>) -> Vec<u8> {
    let lower: Vec<Vec<u8>> = request.lower.iter().map(|layer| name(layer.directory())).collect();
    let upper = upper.map(|upper| (name(&upper.upper), name(&upper.work)));
    let upper = upper.as_ref().map(|(upper, work)| (&upper[..], &work[..]));
    option_string(&lower, upper, request.namespace)
}

fn call(
    request: &MountRequest,
    upper: Option<&OpenUpper>,
    target: &Directory,
    options: Vec<u8>,
) -> Result<(), Failure> {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, upper.is_none());
    flags.set(MountFlags::NODEV, request.options.nodev);
    flags.set(MountFlags::NOSUID, request.options.nosuid);
    let refused = |errno| MountError::Refused { step: "the mount".to_owned(), errno, log: String::new() };
    let options = CString::new(options).map_err(|_| Failure::Final(refused(Errno::INVAL)))?;
    rustix::mount::mount(SOURCE, target.descriptor_path(), "overlay", flags, options.as_c_str()).map_err(|errno| {
        Failure::Final(match errno {
            Errno::PERM => MountError::NotPermitted,
            Errno::NODEV => MountError::NoOverlayfs,
            _ => refused(errno),
        })
    })
}
