//! The command line of layflat.

fn main() {}
