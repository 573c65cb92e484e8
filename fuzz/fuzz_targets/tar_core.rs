//! The archive reader against that of the crates `tar` and `tar-core`: where two accept an archive they see the same, but for the differences
//! that the tests explain.
#![no_main]

#[path = "../../tests/privileged/archives/differential.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod differential;
#[path = "../../tests/privileged/archives/listing.rs"]
#[allow(dead_code)]
mod listing;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(difference) = differential::compare(&layflat::fuzzing::mended(input)) {
        panic!("{difference}");
    }
});
