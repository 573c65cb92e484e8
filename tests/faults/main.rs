//! For as long as they have a program of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
#[path = "mod.rs"]
mod faults;
#[path = "../common/images.rs"]
mod images;

use std::process::ExitCode;

use common::run::{self, Power};

fn main() -> ExitCode {
    let root = run::begin() == Power::Root;
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), faults::trials(root)).exit_code()
}
