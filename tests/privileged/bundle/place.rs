//! Where a test happens, and what it runs there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::place::said;
use crate::common::run;

pub(crate) use crate::common::place::{Place, layflat};

/// Who the ordinary user is.
pub(crate) const USER: u32 = 1000;

/// What makes a container's program of the busybox of this machine: in /dev, which is the container's own, it adds no
/// name to the root file system.
pub(crate) const BUSYBOX: [&str; 4] = ["--bind", "/bin/busybox:/dev/busybox:ro", "--entrypoint", "/dev/busybox"];

/// The crun of Debian 12 refuses a machine that has cgroups of both versions; root takes the second away in a
/// namespace, others cannot.
pub(crate) fn runtimes() -> &'static [&'static str] {
    let both = rustix::fs::statfs("/sys/fs/cgroup/unified").is_ok_and(|status| status.f_type as u32 == 0x6367_7270);
    if both { &["runc"] } else { &["runc", "crun"] }
}

fn shared(name: &str) -> Option<PathBuf> {
    std::env::var_os(super::SHARED).map(|shared| Path::new(&shared).join(name))
}

/// The image of the README, of whose files only /b remains.
pub(crate) fn fixture() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar");
    shared("four-layers.tar").unwrap_or_else(here)
}

static BUSYBOX_IMAGE: OnceLock<PathBuf> = OnceLock::new();

/// An image with a shell, a user with groups, and a volume.
pub(crate) fn busybox() -> PathBuf {
    let make = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-busybox-image");
        let status = Command::new("python3").arg(script).arg(run::shared()).status().unwrap();
        assert!(status.success());
        run::shared().join("busybox.tar")
    };
    shared("busybox.tar").unwrap_or_else(|| BUSYBOX_IMAGE.get_or_init(make).clone())
}

/// What these tests need of a place.
pub(crate) trait Bundles {
    /// Makes a bundle.
    fn bundle(&self, image: &Path, name: &str, arguments: &[&str]) -> String;
    /// What a container's program prints.
    fn contained(&self, runtime: &str, bundle: &str) -> String;
    fn runtime(&self, runtime: &str, bundle: &str) -> Command;
    /// The same inside of what `layflat unshare` makes, with the bundle mounted.
    fn contained_mounted(&self, runtime: &str, bundle: &str) -> String;
    fn run_arguments(&self, bundle: &str) -> Vec<String>;
    /// What a terminal shows where a bundle is run and these lines are typed, with the bundle mounted if it is to be.
    fn typed(&self, bundle: &str, mounted: bool, lines: &str) -> String;
    fn config(&self, bundle: &str) -> serde_json::Value;
    /// What is in a directory but the home.
    fn names(&self, directory: &str) -> Vec<String>;
}

impl Bundles for Place {
    fn bundle(&self, image: &Path, name: &str, arguments: &[&str]) -> String {
        let mut command = self.layflat(&["bundle"]);
        succeeds(command.arg(image).arg(name).args(arguments)).1
    }

    fn contained(&self, runtime: &str, bundle: &str) -> String {
        succeeds(&mut self.runtime(runtime, bundle)).0
    }

    fn runtime(&self, runtime: &str, bundle: &str) -> Command {
        let mut command = self.command(runtime);
        // A pipe, and not /dev/null: runc gives its standard input to the container's user, and that of the machine is everybody's.
        command.args(self.run_arguments(bundle)).stdin(Stdio::piped());
        command
    }

    fn contained_mounted(&self, runtime: &str, bundle: &str) -> String {
        let mut command = self.layflat(&["unshare", "--quiet", "--mount", bundle, "--", runtime]);
        succeeds(command.args(self.run_arguments(bundle))).0
    }

    fn run_arguments(&self, bundle: &str) -> Vec<String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Control groups are the machine's: no other test's has this name, whatever process it is of.
        let own = self.directory().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let name = format!("layflat-test-{own}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let state = self.path("state");
        ["--root", state.to_str().unwrap(), "run", "--bundle", bundle, &name].map(str::to_owned).to_vec()
    }

    fn typed(&self, bundle: &str, mounted: bool, lines: &str) -> String {
        let layflat = layflat();
        let unshare =
            if mounted { format!("{} unshare -q --mount {bundle} -- ", layflat.display()) } else { String::new() };
        let line = format!("{unshare}runc {}", self.run_arguments(bundle).join(" "));
        let mut command = self.command("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn config(&self, bundle: &str) -> serde_json::Value {
        let text = std::fs::read(self.path(bundle).join("config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let mut names = crate::common::place::names(&self.path(directory));
        names.retain(|name| name != "home");
        names
    }
}

/// Standard output and standard error of a command that succeeds.
pub(crate) fn succeeds(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Standard error of a command that fails.
pub(crate) fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stderr).unwrap()
}

/// Arguments by which a container runs a script of busybox's shell.
pub(crate) fn script(text: &str) -> [&str; 6] {
    ["--arg", "sh", "--arg", "-c", "--arg", text]
}
