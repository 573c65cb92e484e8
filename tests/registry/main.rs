//! Images from where they live: a real registry, open, with passwords, with TLS, and behind a proxy that fails in every way that
//! connections do; and Podman's service as the engine. skopeo puts images there and judges what we put there.
//!
//! All servers listen on loopback or on a socket of their own, are children of the test, and die with it.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

#[path = "../common/images.rs"]
mod images;

mod artifacts;
mod cache;
mod configuration;
mod daemon;
mod directories;
mod faults;
mod login;
mod looks;
mod place;
mod policy;
mod proxy;
mod pull;
mod push;
mod servers;
mod tls;
#[path = "../common/tools.rs"]
mod tools;
mod way;
mod wild;

use std::process::ExitCode;

use libtest_mimic::Arguments;

/// A test's name, whether it needs root, and the test.
type Test = (&'static str, bool, fn());

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    let groups = [
        pull::TESTS,
        login::TESTS,
        faults::TESTS,
        push::TESTS,
        cache::TESTS,
        daemon::TESTS,
        directories::TESTS,
        configuration::TESTS,
        policy::TESTS,
        artifacts::TESTS,
        looks::TESTS,
        tls::TESTS,
        way::TESTS,
        wild::TESTS,
    ];
    let trial = |&(name, needs_root, test): &Test| {
        let run = move || {
            test();
            Ok(())
        };
        tools::trial(name, run).with_ignored_flag(needs_root && !root)
    };
    let trials = groups.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
