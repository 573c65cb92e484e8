//! Images of file systems are made by programs of others: what those get wrong is an error, and they end when layflat ends.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::harness::{Test, Trial, trials as trials_of};
use crate::common::run::Scratch;
use crate::common::tools;
use crate::common::wait::{until, while_it_runs};

const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/four-layers.tar");

const TESTS: &[Test] = &[
    ("a_file_system_image_that_its_checker_cannot_read_is_refused", false, damaged),
    ("what_a_tool_says_is_in_the_message_on_one_line", false, failing),
    ("a_tool_that_is_ended_by_a_signal_has_failed", false, dying),
    ("a_killed_layflat_takes_its_tool_with_it", false, || ends(Signal::KILL)),
    ("an_interrupted_layflat_ends_its_tool_and_leaves_nothing", false, || ends(Signal::TERM)),
];

pub(crate) fn trials() -> Vec<Trial> {
    trials_of(TESTS)
}

/// A place where `sqfstar` is this script.
struct Place(Scratch);

impl Place {
    fn with(script: &str) -> Self {
        tools::need(&["sqfstar"]);
        let place = Self(Scratch::new(&std::env::temp_dir()));
        for directory in ["bin", "out", "cache"] {
            fs::create_dir(place.path(directory)).unwrap();
        }
        // It is asked for its help first, to find out whether it is there.
        let script = format!("#!/bin/sh\n[ \"$1\" = --help ] && exit\n{script}\n");
        tools::put_script(&script, &place.path("bin/sqfstar"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn export(&self) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
        command.args(["flatten", "--quiet", IMAGE, "--to", "squashfs", "-o", "out/image"]).current_dir(&self.0.0);
        command.env("PATH", format!("{}:{path}", self.path("bin").display())).env("XDG_CACHE_HOME", self.path("cache"));
        command.env("PLACE", &self.0.0);
        command
    }

    /// The message of an export that must fail and leave nothing.
    fn refusal(&self) -> String {
        let output = self.export().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        self.is_empty();
        said
    }

    fn is_empty(&self) {
        let left = self.left();
        assert!(left.is_empty(), "{left:?}");
    }

    fn left(&self) -> Vec<OsString> {
        fs::read_dir(self.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }
}

fn damaged() {
    let place = Place::with(r#"cat >/dev/null; for image; do :; done; head -c 20000 /dev/zero > "$image""#);
    let said = place.refusal();
    assert!(said.contains("sqfstar made another image than expected"), "{said}");
    // One that can be read at its beginning, and not at its end.
    let place = Place::with(
        r#"PATH=${PATH#*:}; for image; do :; done; sqfstar "$@" && dd if=/dev/urandom of="$image" bs=1 seek=100 count=900 conv=notrunc 2>/dev/null"#,
    );
    let said = place.refusal();
    assert!(said.contains("unsquashfs failed") || said.contains("the root of the image"), "{said}");
}

fn failing() {
    let place = Place::with(r"printf 'one\n\033[2Jtwo\n' >&2; exit 3");
    let said = place.refusal();
    assert!(said.contains(r"sqfstar failed: one; \u{1b}[2Jtwo"), "{said}");
}

fn dying() {
    let place = Place::with("kill -KILL $$");
    let said = place.refusal();
    assert!(said.contains("sqfstar was killed by signal 9"), "{said}");
}

/// The tool, and what it has started, end soon after layflat got a signal.
fn ends(signal: Signal) {
    let place = Place::with(
        r#"sleep 600 & echo $! > "$PLACE/child"; echo $$ > "$PLACE/new"; mv "$PLACE/new" "$PLACE/tool"; wait"#,
    );
    let mut layflat = place.export().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while_it_runs(&mut layflat, "the tool does not run", || place.path("tool").exists());
    let tools = ["tool", "child"].map(|file| Process::of(&place.path(file)));
    kill_process(Pid::from_child(&layflat), signal).unwrap();
    assert_eq!(ended(&mut layflat), Some(signal.as_raw()));
    for tool in tools {
        until("the tool is still there", || !tool.runs());
    }
    if signal != Signal::KILL {
        // Another process may remove it, which layflat does not wait for (rule S11).
        until("something is left", || place.left().is_empty());
    }
}

/// A process by its number, and when it was started: a number is used again.
struct Process {
    number: String,
    started: String,
}

impl Process {
    /// The one whose number is in a file.
    fn of(file: &Path) -> Self {
        let number = fs::read_to_string(file).unwrap().trim().to_owned();
        let (_, started) = status(&number).unwrap_or_default();
        Self { number, started }
    }

    /// Whether it is more than what is left for whoever waits for it.
    fn runs(&self) -> bool {
        status(&self.number).is_some_and(|(state, started)| started == self.started && state != "Z")
    }
}

/// The state of a process, and when it was started (proc_pid_stat(5)).
fn status(number: &str) -> Option<(String, String)> {
    let status = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut fields = status.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.nth(18)?.to_owned()))
}

fn ended(child: &mut Child) -> Option<i32> {
    let mut status = None;
    until("layflat goes on", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.and_then(|status| status.signal())
}
