//! What goes wrong: images that mean harm, destinations that cannot hold everything, and power that is lost.

#[path = "../common/mod.rs"]
mod common;
mod destinations;
mod durability;
mod hostile;

fn main() -> std::process::ExitCode {
    common::harness::main(&[
        ("destinations", destinations::trials),
        ("durability", durability::trials),
        ("hostile", hostile::trials),
    ])
}
