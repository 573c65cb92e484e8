//! The scripts in `scripts/jobs`, each the work of a kind of users from its beginning to its end. They are documents as well:
//! what they show has to work.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::harness::{Test, Trial, trials as of};
use crate::common::place::{Place, layflat, names, said, succeeded};
use crate::common::run::{self, Power, Scratch};
use crate::common::tools;
use crate::registry::servers::Registry;

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: &[Test] = &[
        ("every_job_is_tested", false, every_job_is_tested),
        ("microvm", false, || job("microvm", &["e2fsck", "debugfs"], &[])),
        ("air_gapped", false, air_gapped),
        ("forensics", false, || job("forensics", &[], &[])),
        ("hpc", false, || job("hpc", &[], &[])),
        ("ci", false, || job("ci", &[], &[])),
        ("library", false, library),
        ("privileged_tests", false, privileged_tests),
    ];
    of(TESTS)
}

fn directory() -> PathBuf {
    // The checkout that is tested may be a copy of the one that was built.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&root).join("scripts/jobs")
}

/// A script, to be run in a place with layflat on its PATH.
fn script(place: &Place, name: &str) -> Command {
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(layflat(), bin.join("layflat")).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
    let mut command = place.command(directory().join(name));
    command.env("PATH", path);
    command
}

/// Runs a script, which says at its end that it got there.
fn job(name: &str, programs: &[&str], arguments: &[&str]) {
    tools::need(&["/bin/busybox"]);
    tools::need(programs);
    let place = Place::new();
    // What root mounts over must not be an overlay itself, as /tmp in a container is.
    let scratch = run::is_root().then(|| Scratch::new(run::tmpfs()));
    let mut command = script(&place, name);
    if let Some(scratch) = &scratch {
        command.env("TMPDIR", &scratch.0);
    }
    let output = command.args(arguments).output().unwrap();
    let printed = succeeded(&output);
    assert_eq!(printed.lines().last(), Some(format!("{name}: done").as_str()), "{}", said(&output));
    if let Some(scratch) = &scratch {
        assert_eq!(names(&scratch.0), [""; 0], "{name} left something");
    }
}

fn every_job_is_tested() {
    let jobs = ["air-gapped", "ci", "forensics", "hpc", "library", "make-images", "microvm", "privileged-tests"];
    assert_eq!(names(&directory()), jobs);
}

fn air_gapped() {
    tools::need(&["/bin/busybox"]);
    let place = Place::new();
    let registry = Registry::open(&place);
    job("air-gapped", &[], &[&registry.address.to_string()]);
}

fn library() {
    let examples = layflat().with_file_name("examples");
    if !examples.join("look_and_unpack").exists() {
        tools::impossible("cargo build --examples was not run");
    }
    job("library", &[], &[examples.to_str().unwrap()]);
}

fn privileged_tests() {
    if let Power::Nothing(why) = run::power() {
        tools::impossible(why);
    }
    job("privileged-tests", &[], &[]);
}
