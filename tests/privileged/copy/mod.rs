//! Images copied from everywhere to everywhere, judged by the tools that read them: skopeo, umoci, Podman, gzip, zstd
//! and Python.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]
#![allow(dead_code, reason = "each test program uses its own part of the harness")]

mod edited;
mod faults;
mod layouts;
mod place;
mod registry;
mod round_trips;
mod several;
mod split;

use crate::common::harness::{self, Trial};

pub(crate) fn trials() -> Vec<Trial> {
    let groups = [
        round_trips::TESTS,
        layouts::TESTS,
        several::TESTS,
        faults::TESTS,
        registry::TESTS,
        edited::TESTS,
        split::TESTS,
    ];
    harness::trials(groups.into_iter().flatten())
}
