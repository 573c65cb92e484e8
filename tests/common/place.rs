//! A directory of a test's own, and programs that run in it with nothing of the user's around them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Names a copy of the program, for tests that run as a user who cannot go where it was built.
pub const PROGRAM: &str = "LAYFLAT_TEST_PROGRAM";

pub fn layflat() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| assert_cmd::cargo::cargo_bin!("layflat").to_owned(), PathBuf::from)
}

/// The directory. What programs keep for themselves is in `home` in it: the cache in `home/.cache`, sockets in
/// `home/run`, and the registries that are known in `home/registries.conf`, which is empty.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        // What this machine's administrator has decided is not tested here.
        fs::create_dir_all(place.path("home/.config/containers")).unwrap();
        let anything = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        place.write("home/.config/containers/policy.json", anything);
        place.write("home/registries.conf", "");
        place
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A program that runs here. Of the user's environment it has the search path and the directory for temporary files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory()).stdin(Stdio::null()).env_clear();
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.path("home")).env("LC_ALL", "C.UTF-8").env("XDG_RUNTIME_DIR", self.path("home/run"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path("home/registries.conf"));
        command
    }

    pub fn layflat(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(layflat());
        command.args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.layflat(arguments).output().unwrap()
    }

    /// The same, with something to read from standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        assert_cmd::Command::from_std(self.layflat(arguments)).write_stdin(input).output().unwrap()
    }

    /// What a layflat that succeeds prints.
    #[track_caller]
    pub fn printed(&self, arguments: &[&str]) -> String {
        succeeded(&self.run(arguments))
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.printed(&[&["--json"], arguments].concat())).unwrap()
    }

    /// The one line that a layflat which fails prints, without what all begin with.
    #[track_caller]
    pub fn message(&self, arguments: &[&str]) -> String {
        failed(&self.run(arguments))
    }
}

/// What an ordinary user's subordinate ids own only that user's namespace can remove.
impl Drop for Place {
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() && fs::remove_dir_all(self.directory()).is_err() {
            let remove = r#"find "$0" -mindepth 1 -maxdepth 1 -exec rm -rf {} +"#;
            let arguments = ["unshare", "--quiet", "--", "sh", "-c", remove];
            let _ = self.layflat(&arguments).arg(self.directory()).status();
        }
    }
}

/// Standard output of a command that succeeded.
#[track_caller]
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that a layflat which failed has printed, without what all begin with.
#[track_caller]
pub fn failed(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty(), "{}", said(output));
    assert_eq!(message.lines().count(), 1, "{message}");
    message.trim_end().strip_prefix("layflat: ").unwrap().to_owned()
}

/// Both outputs of a command.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What a directory holds, by name.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
