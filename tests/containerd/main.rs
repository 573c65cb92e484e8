//! layflat-containerd with the containerds that `scripts/get-containerd` has put into target/containerd: what they mount
//! is what the images mean. Where they are not there, each test counts as ignored.

#[path = "../common/mod.rs"]
mod common;
mod daemons;
mod differ;

fn main() -> std::process::ExitCode {
    common::harness::main(&[("differ", differ::trials)])
}
