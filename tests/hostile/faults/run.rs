//! Runs of the program, undisturbed and under strace.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;
use tempfile::NamedTempFile;

use super::calls::{self, Fault, Numbers};
use super::place::{Place, Shown};
use super::scenes::Scene;

/// After so many seconds a run hangs.
const PATIENCE: &str = "120";

/// What one run came to.
pub(crate) struct Ran {
    /// The exit code; none if it died by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// What strace wrote.
    pub(crate) record: String,
}

/// Why nothing can be traced here.
pub(crate) fn cannot_trace() -> Option<String> {
    let output = Command::new("strace").args(["-f", "-e", "inject=getpriority:error=EIO", "true"]).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("strace: {error}")),
    }
}

fn environment(command: &mut Command, place: &Path) {
    command.current_dir(place).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", place.join("home")).env("TMPDIR", place.join("tmp")).env("XDG_CACHE_HOME", place.join("cache"));
}

/// A run that must succeed.
pub(crate) fn undisturbed(place: &Path, arguments: &[&str]) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
    environment(command.args(arguments), place);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A run without a fault.
pub(crate) fn plain(place: &Place, scene: &Scene) -> Ran {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
    environment(command.args(scene.arguments), place.path());
    ran(command.output().unwrap(), String::new())
}

/// A run under strace.
fn traced(place: &Place, scene: &Scene, what: &str) -> Ran {
    let record = NamedTempFile::new().unwrap();
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE, "strace", "-f", "-qq", "-e", what, "-o"]).arg(record.path());
    command.arg(assert_cmd::cargo::cargo_bin!("layflat")).args(scene.arguments);
    environment(&mut command, place.path());
    let output = command.output().unwrap();
    ran(output, String::from_utf8_lossy(&fs::read(record.path()).unwrap()).into_owned())
}

fn ran(output: Output, record: String) -> Ran {
    // As a shell and timeout(1) tell it.
    let code = output.status.code().filter(|code| *code < 128);
    Ran { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned(), record }
}

/// A run with a fault.
pub(crate) fn with(fault: &Fault, place: &Place, scene: &Scene) -> Ran {
    traced(place, scene, &fault.injection())
}

/// How a command runs when nothing fails.
pub(crate) struct Course {
    pub(crate) before: Shown,
    pub(crate) good: Shown,
    pub(crate) stdout: Option<Vec<u8>>,
    pub(crate) calls: Numbers,
}

impl Course {
    pub(crate) fn of(scene: &Scene) -> Result<Self, Failed> {
        let (first, second) = (Place::of(scene), Place::of(scene));
        let mut before = Shown::of(&first);
        before.settle(&Shown::of(&second));
        let one = traced(&first, scene, &format!("trace={}", calls::traced()));
        let two = plain(&second, scene);
        if (one.code, two.code) != (Some(0), Some(0)) {
            return Err(format!("{:?}: {}{}", scene.arguments, one.stderr, two.stderr).into());
        }
        let mut good = Shown::of(&first);
        let varies = good.settle(&Shown::of(&second));
        if !varies.is_empty() {
            eprintln!(
                "{}: these differ between two runs, and only their names are compared: {}",
                scene.name,
                varies.join(", ")
            );
        }
        let stdout = (one.stdout == two.stdout).then_some(one.stdout);
        Ok(Self { before, good, stdout, calls: calls::count(&one.record) })
    }
}
