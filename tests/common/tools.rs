//! The programs of others that tests are held against, listed in `tests/tools.txt`.
//!
//! `cargo test` must not fail on a machine that lacks one of them. A test asks for a program when it needs it
//! ([`command`], [`need`]); where the program is not installed the test ends there, counts as ignored, and names the
//! package. With `LAYFLAT_TEST_TOOLS=required` it fails instead: `scripts/test` sets that, since it has installed them
//! all.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Completion, Failed, Trial};

const LIST: &str = include_str!("../tools.txt");

/// What ends a test that needs a program which is not installed.
struct Missing(String);

/// A test that counts as ignored where a program that it needs is not installed.
pub fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || match catch_unwind(AssertUnwindSafe(test)) {
        Ok(result) => result.map(|()| Completion::Completed),
        Err(panic) => match panic.downcast::<Missing>() {
            Ok(missing) => Ok(Completion::ignored_with(missing.0)),
            Err(panic) => resume_unwind(panic),
        },
    })
}

/// Ends the test here if one of these programs is not installed.
///
/// To be called on the test's own thread.
#[track_caller]
pub fn need(programs: &[&str]) {
    if let Some(missing) = missing(programs) {
        end(missing);
    }
}

/// Ends the test here as one that is not possible.
pub fn impossible(reason: &str) -> ! {
    end(reason.to_owned())
}

/// Ends the test here as one that is not possible, where this user can make no user namespace with mounts in it: in many
/// containers, and below chroot(2).
pub fn need_user_namespace() {
    match Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => impossible(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => impossible(&format!("unshare: {error}")),
    }
}

/// The same as [`need`] for one program of a named package.
#[track_caller]
pub fn need_from(package: &str, program: &str) {
    if !is_installed(program) {
        end(not_installed(program, Some(package)));
    }
}

/// A command of a program that the test needs, in a locale that takes every name.
#[track_caller]
pub fn command(program: &str) -> Command {
    need(&[program]);
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// The first of these programs that is not installed, and its package.
#[track_caller]
pub fn missing(programs: &[&str]) -> Option<String> {
    let program = programs.iter().find(|program| !is_installed(program))?;
    let package = LIST.lines().find_map(|line| line.strip_prefix(program)?.strip_prefix(' ')).map(str::trim);
    Some(not_installed(program, package))
}

fn end(missing: String) -> ! {
    // Not a panic for the hook to print: nothing has failed.
    resume_unwind(Box::new(Missing(missing)))
}

/// Says so, or fails where all programs are required.
#[track_caller]
fn not_installed(program: &str, package: Option<&str>) -> String {
    let package = package.map(|package| format!(" (Debian package {package})")).unwrap_or_default();
    let missing = format!("{program} is not installed{package}");
    assert!(std::env::var("LAYFLAT_TEST_TOOLS").as_deref() != Ok("required"), "{missing}");
    missing
}

pub fn is_installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    // Administrators' programs are not on every user's PATH, and are not run by those who cannot find them.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(OsStr::new(program)).is_file())
}

/// Puts a copy of a program where it is to be run. Another process writes it: what this one has open for writing is inherited by whatever
/// a test beside this one starts at the moment, and then the program cannot be run (ETXTBSY).
#[allow(dead_code, reason = "not all tests do")]
pub fn put_program(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("--preserve=mode").args([from, to]).status().unwrap();
    assert!(copied.success(), "{to:?}");
}

/// The same of a script.
#[allow(dead_code, reason = "not all tests do")]
pub fn put_script(text: &str, to: &std::path::Path) {
    let draft = to.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    put_program(&draft, to);
    std::fs::remove_file(&draft).unwrap();
}
