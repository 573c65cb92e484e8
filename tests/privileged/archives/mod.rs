//! The archive reader against everybody else's: trees packed by the tools that people use, and random archives read
//! by two other crates.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

mod differential;
mod fixtures;
mod listing;
mod packed;
mod written;

use crate::common::harness::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let groups = [
        ("differential", differential::TESTS),
        ("fixtures", fixtures::TESTS),
        ("packed", packed::TESTS),
        ("written", written::TESTS),
    ];
    let trial = |group: &str, &(name, test): &(&str, fn())| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(format!("{group}::{name}"), run)
    };
    groups.iter().flat_map(|(group, tests)| tests.iter().map(move |test| trial(group, test))).collect()
}
