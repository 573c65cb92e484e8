//! Bundles started by runc and crun, as root and as an ordinary user.
//!
//! Everything happens in a mount namespace of the test's own process. There an ordinary user, uid 1000, has subordinate
//! ids, by copies of /etc/subuid and /etc/subgid that nobody else sees; root runs the whole program a second time as
//! that user. An ordinary user who runs it gets what their own ids allow, and the rest is ignored.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

mod config;
mod container;
mod owners;
mod place;
mod root;
mod rootless;

use crate::common::harness::{self, Trial};
use crate::common::{fuse, run, tools};
use libtest_mimic::Failed;
use place::{Place, USER};
use rustix::mount::{MountFlags, UnmountFlags};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Set for the second run: where the first one has put what both need.
const SHARED: &str = "LAYFLAT_TEST_SHARED";

pub(crate) fn trials() -> Vec<Trial> {
    let root = run::is_root();
    let can = can_run(root);
    if let Err(reason) = &can {
        eprintln!("bundle: tests count as ignored: {reason}");
    }
    let trial = |name: &str, test: fn(&Place), ignored: bool| {
        let run = move || {
            test(&Place::new());
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let mut trials = Vec::new();
    for (name, test) in config::TESTS {
        trials.push(trial(name, *test, false));
    }
    let usable = fuse::is_usable();
    if let Err(reason) = &usable {
        eprintln!("bundle: tests with fuse-overlayfs count as ignored: {reason}");
    }
    let fuse = usable.is_ok();
    for (name, test) in root::TESTS.iter().chain(owners::TESTS).chain([&config::COMPARISON]) {
        let ignored = !root || can.is_err() || (name.contains("fuse_overlayfs") && !fuse);
        trials.push(trial(name, *test, ignored));
    }
    let granted = layflat::userns::subordinate_ids().is_ok_and(|ids| ids.is_some());
    for (name, needs_ids, test) in rootless::TESTS {
        let ignored = root || can.is_err() || (*needs_ids && !granted) || (name.contains("fuse_overlayfs") && !fuse);
        trials.push(trial(name, *test, ignored));
    }
    for (name, needs_ids, test) in container::TESTS {
        trials.push(trial(name, *test, can.is_err() || (!root && *needs_ids && !granted)));
    }
    trials
        .push(Trial::test("all_again_as_an_ordinary_user", as_ordinary_user).with_ignored_flag(!root || can.is_err()));
    trials
}

/// Prepares this process, whose mounts nobody else sees.
fn can_run(root: bool) -> Result<(), String> {
    let programs = [
        "runc",
        "crun",
        "umoci",
        "newuidmap",
        "fuse-overlayfs",
        "setpriv",
        "setfacl",
        "setcap",
        "/bin/busybox",
        "python3",
        "tar",
    ];
    if let Some(missing) = tools::missing(&programs) {
        return Err(missing);
    }
    if !root {
        let output = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
        return match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        };
    }
    let failed = |error: std::io::Error| format!("cannot prepare the mounts: {error}");
    let place = tempfile::tempdir().map_err(failed)?;
    for name in ["subuid", "subgid"] {
        let copy = place.path().join(name);
        std::fs::write(&copy, format!("{USER}:100000:65536\n")).map_err(failed)?;
        let target = Path::new("/etc").join(name);
        if !target.exists() {
            return Err(format!("{} is not there", target.display()));
        }
        rustix::mount::mount(&copy, &target, "", MountFlags::BIND, None).map_err(|errno| failed(errno.into()))?;
    }
    fuse::open_to_all().map_err(failed)?;
    // The crun of Debian 12 refuses a machine that has cgroups of both versions.
    let _ = rustix::mount::unmount("/sys/fs/cgroup/unified", UnmountFlags::DETACH);
    Ok(())
}

/// Runs this program once more, as a user with subordinate ids.
fn as_ordinary_user() -> Result<(), Failed> {
    let shared = tempfile::tempdir()?;
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755));
    open(shared.path())?;
    // Both may lie where only root can go.
    let program = shared.path().join("program");
    crate::common::tools::put_program(&std::env::current_exe()?, &program);
    crate::common::tools::put_program(place::layflat().as_ref(), &shared.path().join("layflat"));
    std::fs::copy(place::fixture(), shared.path().join("four-layers.tar"))?;
    std::fs::copy(place::busybox(), shared.path().join("busybox.tar"))?;
    let home = shared.path().join("home");
    std::fs::create_dir(&home)?;
    chown(&home, Some(USER), Some(USER))?;
    for name in ["program", "layflat", "home"] {
        open(&shared.path().join(name))?;
    }
    let output = Command::new(&program)
        .uid(USER)
        .gid(USER)
        .current_dir("/")
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("XDG_RUNTIME_DIR", &home)
        .env(SHARED, shared.path())
        .env(crate::common::place::PROGRAM, shared.path().join("layflat"))
        .envs([harness::only("bundle")])
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("as an ordinary user:\n{}{}", text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Err(said.into());
    }
    let left: Vec<_> = std::fs::read_dir(&home)?.map(|entry| entry.unwrap().file_name()).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}").into()) }
}
