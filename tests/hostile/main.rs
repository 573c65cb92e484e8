//! What goes wrong: images that mean harm, destinations that cannot hold everything, system calls that fail, and power that is lost.

#[path = "../common/mod.rs"]
mod common;
mod destinations;
mod durability;
mod exports;
mod faults;
mod hostile;
mod signals;

fn main() -> std::process::ExitCode {
    common::harness::main(&[
        ("destinations", destinations::trials),
        ("durability", durability::trials),
        ("exports", exports::trials),
        ("faults", faults::trials),
        ("hostile", hostile::trials),
        ("signals", signals::trials),
    ])
}
