//! The mount API: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

use super::directory::Directory;
use super::error::MountError;
use super::options;
use super::request::{Method, MountOptions, MountRequest};
use super::syscall::SOURCE;
use super::upper::OpenUpper;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What came of one way of mounting.
#[derive(Debug)]
pub(super) enum Failure {
    /// This kernel may not know the way. If no other works, this is the error.
    Unknown(MountError),
    /// No other way will do better.
    Final(MountError),
}

/// Mounts through a file system context, layers by descriptor or by path.
pub(super) fn mount(
    request: &MountRequest,
    upper: Option<&OpenUpper>,
    target: &Directory,
    method: Method,
) -> Result<(), Failure> {
    attach(&create(request, upper, method)?, target)
}

/// Puts a mount that is nowhere on its target.
pub(super) fn attach(mounted: &OwnedFd, target: &Directory) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", target, "", flags).map_err(|errno| {
        let step = "the target".to_owned();
        Failure::Final(MountError::Refused { step, errno, log: String::new() })
    })
}

/// Makes a mount that is nowhere yet: it can be looked into by its descriptor, and goes with it.
pub(super) fn create(request: &MountRequest, upper: Option<&OpenUpper>, method: Method) -> Result<OwnedFd, Failure> {
    let context = Context::open("overlay")?;
    context.set("source", Some(request.options.source.as_deref().unwrap_or(SOURCE)))?;
    for layer in &request.lower {
        context.set_layer(layer.directory(), method)?;
    }
    if let Some(upper) = upper {
        for (key, directory) in [("upperdir", &upper.upper), ("workdir", &upper.work)] {
            context.set_directory(key, directory, method)?;
        }
    }
    for &(key, value) in options::settings(request.namespace) {
        context.set(key, value)?;
    }
    fsconfig_create(&context.0).map_err(|errno| {
        // A kernel before 6.5 takes any setting, and judges only here, without a word.
        context.failure("the mount", errno, |errno, log| errno == Errno::INVAL && log.is_empty())
    })?;
    context.mount(&request.options, upper.is_none())
}

/// Whether the kernel lets this process begin at all. One that does not know the way may know another.
pub(super) fn may_open() -> Result<(), MountError> {
    match Context::open("overlay") {
        Ok(_) | Err(Failure::Unknown(_)) => Ok(()),
        Err(Failure::Final(error)) => Err(error),
    }
}

/// A file system in the making.
pub(super) struct Context(pub(super) OwnedFd);

impl Context {
    pub(super) fn open(file_system: &'static str) -> Result<Self, Failure> {
        match fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => Ok(Self(context)),
            Err(Errno::PERM) => Err(Failure::Final(MountError::NotPermitted)),
            Err(Errno::NODEV) if file_system == "overlay" => Err(Failure::Final(MountError::NoOverlayfs)),
            Err(Errno::NODEV) => Err(Failure::Unknown(MountError::NoErofs("this kernel does not have it".to_owned()))),
            Err(errno) => {
                let step = format!("to open the file system {file_system}");
                let error = MountError::Refused { step, errno, log: String::new() };
                // as old kernels and some containers' filters say it
                Err(if errno == Errno::NOSYS { Failure::Unknown(error) } else { Failure::Final(error) })
            }
        }
    }

    /// The mount, when all was set and the file system was created.
    pub(super) fn mount(&self, options: &MountOptions, read_only: bool) -> Result<OwnedFd, Failure> {
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, options.nodev);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, options.nosuid);
        fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.failure("the mount", errno, |_, _| false))
    }

    pub(super) fn set(&self, key: &str, value: Option<&str>) -> Result<(), Failure> {
        let done = match value {
            Some(value) => fsconfig_set_string(&self.0, key, value),
            None => fsconfig_set_flag(&self.0, key),
        };
        done.map_err(|errno| self.failure(&format!("the option {key}"), errno, |_, _| false))
    }

    fn set_layer(&self, layer: &Directory, method: Method) -> Result<(), Failure> {
        let done = match method {
            Method::FdLayers => fsconfig_set_fd(&self.0, "lowerdir+", layer),
            // taken as it is, nothing is escaped
            _ => fsconfig_set_string(&self.0, "lowerdir+", OsStr::from_bytes(&layer.string())),
        };
        done.map_err(|errno| self.failure(&layer_name("the layer", layer.path()), errno, is_unknown))
    }

    fn set_directory(&self, key: &str, directory: &Directory, method: Method) -> Result<(), Failure> {
        let done = match method {
            Method::FdLayers => fsconfig_set_fd(&self.0, key, directory),
            _ => {
                let mut path = options::escape(&directory.string());
                if path.len() > options::LONGEST_STRING {
                    path = directory.descriptor_path().into_bytes();
                }
                fsconfig_set_string(&self.0, key, OsStr::from_bytes(&path))
            }
        };
        done.map_err(|errno| self.failure(&layer_name(key, directory.path()), errno, is_unknown))
    }

    pub(super) fn failure(&self, step: &str, errno: Errno, unknown: impl Fn(Errno, &str) -> bool) -> Failure {
        let log = self.log();
        let unknown = unknown(errno, &log);
        let error = MountError::Refused { step: step.to_owned(), errno, log };
        if unknown { Failure::Unknown(error) } else { Failure::Final(error) }
    }

    /// What the kernel has to say: each read gives one message, with its severity before it.
    fn log(&self) -> String {
        let mut messages: Vec<String> = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = rustix::io::read(&self.0, &mut buffer) {
            let message = &buffer[..length];
            let text = message.strip_prefix(b"e ").or(message.strip_prefix(b"w ")).unwrap_or(message);
            messages.push(crate::core::text::Printable(text.trim_ascii()).to_string());
        }
        messages.join("; ")
    }
}

fn layer_name(what: &str, path: &Path) -> String {
    format!("{what} {}", super::error::printable(path))
}

/// Whether a kernel refuses a layer because it does not know `lowerdir+` (before 6.8), or not with a descriptor (before
/// 6.13): "Unknown parameter", "Bad value", and before 6.5 "VFS: Legacy: Parameter type … not supported", or nothing.
fn is_unknown(errno: Errno, log: &str) -> bool {
    let words = ["Unknown parameter", "Bad value", "Legacy"];
    errno == Errno::INVAL && (log.is_empty() || words.iter().any(|word| log.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_from_a_bad_layer() {
        for log in ["", "overlay: Unknown parameter 'lowerdir+'", "overlay: Bad value for 'lowerdir+'"] {
            assert!(is_unknown(Errno::INVAL, log), "{log:?}");
        }
        assert!(is_unknown(Errno::INVAL, "VFS: Legacy: Parameter type for 'lowerdir+' not supported"));
        assert!(!is_unknown(Errno::INVAL, "overlay: case-insensitive directory on /a not supported"));
        assert!(!is_unknown(Errno::LOOP, ""));
    }
}
