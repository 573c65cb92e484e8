//! Images from where they live: a real registry, open, with passwords, with TLS, and behind a proxy that fails in every
//! way that connections do; and Podman's service as the engine. skopeo puts images there and judges what we put there.
//!
//! All servers listen on loopback or on a socket of their own, are children of the test, and die with it.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

mod artifacts;
mod cache;
mod configuration;
mod daemon;
mod directories;
mod faults;
mod login;
mod looks;
mod mirrors;
mod nodes;
mod place;
mod policy;
mod proxy;
mod pull;
mod push;
pub(crate) mod servers;
mod tls;
mod way;
mod wild;

use crate::common::harness::{self, Trial};

pub(crate) fn trials() -> Vec<Trial> {
    let groups = [
        pull::TESTS,
        login::TESTS,
        faults::TESTS,
        push::TESTS,
        cache::TESTS,
        mirrors::TESTS,
        nodes::TESTS,
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
    harness::trials(groups.into_iter().flatten())
}
