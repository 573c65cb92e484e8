//! Enters a new namespace: the process continues inside it as root.

use super::error::{NamespaceError, SHELL};
use crate::core::idmap::{IdMap, IdMaps};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

/// What runs outside, since the helpers map for a process from there. It waits for a line until the namespace is made.
const HELPER: &str = r#"read -r made && newuidmap "$1" $2 && newgidmap "$1" $3"#;

/// Enters a user namespace with these ids, and a mount namespace, whose mounts are invisible outside.
///
/// It must happen before the process has threads.
///
/// # Errors
/// A map by which the caller is not root, a kernel that refuses, and ids that are not the caller's to map. In the last
/// case the process is in no state to go on.
pub fn enter(maps: &IdMaps) -> Result<(), NamespaceError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    for (map, id) in [(&maps.uids, uid), (&maps.gids, gid)] {
        if map.inside(id) != Some(0) {
            return Err(NamespaceError::NotRoot { map: map.clone(), id });
        }
    }
    let own = IdMaps::root(uid, gid);
    if *maps == own {
        make()?;
        map_own(&own)?;
    } else {
        let helper = start_helper(maps)?;
        make()?;
        finish_helper(helper, maps)?;
    }
    keep_mounts()
}

/// Enters a mount namespace alone: all that root needs.
///
/// # Errors
/// A kernel that refuses.
pub fn enter_mounts() -> Result<(), NamespaceError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| NamespaceError::Mounts { error: errno.into() })?;
    keep_mounts()
}

fn make() -> Result<(), NamespaceError> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| NamespaceError::Refused { error: errno.into() })
}

/// Mounts made outside still come in, those made in here do not go out.
fn keep_mounts() -> Result<(), NamespaceError> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| NamespaceError::Mounts { error: errno.into() })
}

/// One's own id anybody may map, after giving up to change groups.
fn map_own(own: &IdMaps) -> Result<(), NamespaceError> {
    let lines = [("setgroups", "deny".to_owned()), ("uid_map", numbers(&own.uids)), ("gid_map", numbers(&own.gids))];
    for (file, line) in lines {
        std::fs::write(format!("/proc/self/{file}"), line).map_err(|error| NamespaceError::Map { file, error })?;
    }
    Ok(())
}

fn start_helper(maps: &IdMaps) -> Result<Child, NamespaceError> {
    Command::new(SHELL)
        .args(["-c", HELPER, "layflat"])
        .arg(std::process::id().to_string())
        .args([numbers(&maps.uids), numbers(&maps.gids)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| NamespaceError::Helper { error })
}

fn finish_helper(mut helper: Child, maps: &IdMaps) -> Result<(), NamespaceError> {
    let failed = |error| NamespaceError::Helper { error };
    if let Some(mut input) = helper.stdin.take() {
        input.write_all(b"made\n").map_err(failed)?;
    }
    let mut message = String::new();
    if let Some(mut output) = helper.stderr.take() {
        output.read_to_string(&mut message).map_err(failed)?;
    }
    if helper.wait().map_err(failed)?.success() {
        return Ok(());
    }
    let message = message.trim().replace('\n', "; ");
    Err(NamespaceError::NotGranted { uids: maps.uids.clone(), gids: maps.gids.clone(), message })
}

/// As the helpers and the kernel take a map: all numbers, with spaces between.
fn numbers(map: &IdMap) -> String {
    map.ranges()
        .iter()
        .map(|range| format!("{} {} {}", range.inside, range.outside, range.count))
        .collect::<Vec<_>>()
        .join(" ")
}
