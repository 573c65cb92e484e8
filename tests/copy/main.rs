//! Images copied from everywhere to everywhere, judged by the tools that read them: skopeo, umoci, Podman, gzip, zstd and Python.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]
#![allow(dead_code, reason = "each test program uses its own part of the harness")]

mod faults;
#[path = "../common/images.rs"]
mod images;
mod layouts;
mod place;
mod registry;
mod round_trips;
mod several;
#[path = "../common/tools.rs"]
mod tools;

use std::process::ExitCode;

use libtest_mimic::Arguments;

/// A test, and whether it needs root.
type Test = (&'static str, bool, fn());

fn main() -> ExitCode {
    let root = rustix::process::geteuid().is_root() && !layflat::userns::in_user_namespace();
    if !root {
        eprintln!("tests/copy: some are skipped, which need root: Podman's storage, and a small file system");
    }
    let trial = |&(name, needs_root, test): &Test| {
        let run = move || {
            test();
            Ok(())
        };
        tools::trial(name, run).with_ignored_flag(needs_root && !root)
    };
    let tests = [round_trips::TESTS, layouts::TESTS, several::TESTS, faults::TESTS, registry::TESTS].concat();
    libtest_mimic::run(&Arguments::from_args(), tests.iter().map(trial).collect()).exit_code()
}
