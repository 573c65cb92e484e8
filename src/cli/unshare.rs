//! `layflat unshare`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use clap::Args;
use layflat::bundle::OverlayBundle;
use layflat::fs::is_on_path;
use layflat::mount::MountOptions;
use layflat::{Cancel, Owners};

use super::arguments::Common;
use super::exit::{NOT_FOUND, NOT_RUN};
use super::mount::{CachedArgs, What};
use super::output;

/// Run a command, or a shell, in a new user and mount namespace (rootless mounts)
///
/// In the namespace an ordinary user is root over their subordinate ids, or over their own id alone if they have none.
/// Owners look as in the image, and overlays can be mounted. Root gets only a mount namespace. Mounts end with the
/// command. Exits with the command's code; with 126 if it cannot be run, with 127 if it is not found.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat unshare --mount docker://alpine:mnt ls -l mnt
  layflat unshare rm -rf rootfs")]
pub(crate) struct Unshare {
    /// Mount an image or unpacked layers on TARGET, or a bundle on its rootfs. Repeatable
    #[arg(long = "mount", value_name = "IMAGE|DEST:TARGET|BUNDLE")]
    mounts: Vec<OsString>,
    #[command(flatten)]
    cached: CachedArgs,
    /// The command and its arguments [default: $SHELL]
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Unshare {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        if self.cached.backend.is_erofsfuse() {
            bail!("--backend erofsfuse is for mount: its process would outlive the namespace");
        }
        self.cached.unpack.owners.enter(common)?;
        for mount in &self.mounts {
            let (source, target) = parts(mount)?;
            let owners = if self.cached.unpack.owners.is_recorded() { Owners::Recorded } else { Owners::AsTheyAre };
            let what = What { source, target: target.map(Path::new), layered: false };
            self.cached.mount(&what, MountOptions::default(), owners, common, cancel)?.say(common);
        }
        let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let program = self.command.first().cloned().unwrap_or_else(shell);
        let mut error = Command::new(&program).args(self.command.iter().skip(1)).exec();
        // Where a directory of the PATH is closed to the user, the kernel speaks of that and not of the program.
        let is_looked_for = !program.as_bytes().contains(&b'/');
        if error.kind() == std::io::ErrorKind::PermissionDenied && is_looked_for && !is_on_path(&program) {
            error = rustix::io::Errno::NOENT.into();
        }
        // As a shell, env(1) and unshare(1) have it, so that a script can tell them from the command's own codes.
        let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
        output::error(&anyhow::Error::new(error).context(format!("cannot run {program:?}")));
        Ok(code)
    }
}

/// What to mount, and where. The target is what follows the last colon, since images have colons in their names.
fn parts(mount: &OsStr) -> anyhow::Result<(&OsStr, Option<&OsStr>)> {
    if OverlayBundle::open(Path::new(mount))?.is_some() {
        return Ok((mount, None));
    }
    let bytes = mount.as_bytes();
    match bytes.iter().rposition(|&byte| byte == b':') {
        Some(colon) if colon > 0 && colon + 1 < bytes.len() => {
            Ok((OsStr::from_bytes(&bytes[..colon]), Some(OsStr::from_bytes(&bytes[colon + 1..]))))
        }
        _ => bail!("--mount {mount:?}: expected IMAGE:TARGET or DEST:TARGET, or a bundle"),
    }
}
