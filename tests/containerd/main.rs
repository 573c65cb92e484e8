//! layflat-containerd with the containerds and Docker Engines that `scripts/get-containerd` has put into target/containerd:
//! what they mount and build is what the images mean. Where they are not there, each test counts as ignored.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod daemons;
mod docker;
mod imports;
mod lost;
#[path = "../privileged/registry/servers.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test helper, with more ways to start a registry than are used here"
)]
mod servers;
mod service;
mod unpacker;

use common::place;
use daemons::Role;
use unpacker::Kept;

fn main() -> std::process::ExitCode {
    common::harness::main(&[
        ("differ", || imports::trials(Role::Differ)),
        ("pair", || imports::trials(Role::Pair)),
        ("erofs", || imports::trials(Role::Erofs)),
        ("docker", docker::trials),
        ("lost", lost::trials),
        ("service", service::trials),
        ("unpacker", || unpacker::trials(Kept::Directories)),
        ("unpacker_erofs", || unpacker::trials(Kept::Images)),
    ])
}
