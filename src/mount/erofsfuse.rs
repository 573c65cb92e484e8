//! erofsfuse (erofs-utils), for users whom the kernel lets mount nothing: one EROFS image over the files that its contents lie in, read-only.
//!
//! It shows owners, modes, devices and attributes as the image has them, but whole seconds. What it can read is narrower than what the kernel can: see
//! [`Options::for_erofsfuse`](crate::erofs::Options::for_erofsfuse).

use super::directory::Directory;
use super::erofs::ErofsImage;
use super::error::MountError;
use super::fuse::{self, Inherited};
use super::options::escape;
use super::request::MountOptions;
use crate::core::text::version;
use crate::userns::in_user_namespace;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The program, and what its mounts are called in /proc/self/mountinfo.
pub(super) const PROGRAM: &str = "erofsfuse";
pub(super) const FILE_SYSTEM: &str = "fuse.erofsfuse";

/// What is known to read our images: tried with 1.8.6 and 1.9.4.
const OLDEST: (u32, u32) = (1, 8);

/// Whether this process can have erofsfuse mount an image.
///
/// # Errors
/// [`MountError::NoErofsfuse`].
pub fn may_use_erofsfuse() -> Result<(), MountError> {
    static VERSION: OnceLock<Result<(), String>> = OnceLock::new();
    let no = |why: String| Err(MountError::NoErofsfuse(why));
    if in_user_namespace() {
        return no(
            "is not used in a user namespace: the kernel mounts overlays there, and its process would outlive the namespace"
                .to_owned(),
        );
    }
    VERSION.get_or_init(check_version).clone().map_err(MountError::NoErofsfuse)?;
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => no(format!("needs /dev/fuse: {error}")),
    }
}

fn check_version() -> Result<(), String> {
    let output = match Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("is not installed (package erofsfuse)".to_owned());
        }
        Err(error) => return Err(format!("cannot be run: {error}")),
    };
    // It has no code that tells success.
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (major, minor) = OLDEST;
    match said.lines().find_map(|line| version(line.strip_prefix(PROGRAM)?.trim())) {
        Some(found) if found >= OLDEST => Ok(()),
        Some((old, older)) => Err(format!("{old}.{older} is too old: {major}.{minor} or later is needed")),
        None => Err(format!("does not say that it is {major}.{minor} or later, as is needed")),
    }
}

/// Mounts by a process that stays as long as the mount.
///
/// It gets the files as open descriptors, by name of /proc/self/fd: they are those that were looked at.
pub(super) fn mount(image: &ErofsImage, options: &MountOptions, target: &Directory) -> Result<(), MountError> {
    may_use_erofsfuse()?;
    let mut inherited = Inherited::default();
    let failed = |error: std::io::Error| MountError::Program { program: PROGRAM, said: error.to_string() };
    let mut command = Command::new(PROGRAM);
    // Warnings would be written when nobody reads them any more.
    command.arg("--dbglevel=1").arg("-o").arg(mount_options(image, options));
    for device in &image.devices {
        command.arg(format!("--device={}", inherited.name(device).map_err(failed)?));
    }
    command.arg(inherited.name(&image.metadata).map_err(failed)?);
    // No option, whatever its name.
    let path = std::path::absolute(target.path()).unwrap_or_else(|_| target.path().to_owned());
    let said = match fuse::run(command.arg(&path), inherited) {
        Ok(ran) => ran.said,
        Err(error) => error.to_string(),
    };
    // What it could not mount it ends with the code of success, too.
    match Directory::open(&path, "the target") {
        Ok(mounted) if fuse::is_mounted_by(&mounted, FILE_SYSTEM) => Ok(()),
        _ => Err(MountError::Program { program: PROGRAM, said }),
    }
}

/// By the image's name the cache knows what is in use.
fn mount_options(image: &ErofsImage, options: &MountOptions) -> OsString {
    let mut text = format!("ro,subtype={PROGRAM}");
    if rustix::process::geteuid().is_root() {
        // As what the kernel mounts: for everybody, as far as modes allow. Without this the mount is its owner's alone, who may read all.
        text += ",allow_other,default_permissions";
        text += if options.nodev { ",nodev" } else { ",dev" };
        text += if options.nosuid { ",nosuid" } else { ",suid" };
    }
    let mut text = text.into_bytes();
    text.extend_from_slice(b",fsname=");
    text.extend_from_slice(&escape(image.path.as_os_str().as_bytes()));
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("1.8.6"), Some((1, 8)));
        assert_eq!(version("1.10"), Some((1, 10)));
        assert_eq!(version("1.9-g12345678-dirty"), Some((1, 9)));
        assert!(version("1.10") > Some(OLDEST) && version("1.7.1") < Some(OLDEST));
        assert_eq!(version("unknown"), None);
    }
}
