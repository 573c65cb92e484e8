//! The command line of layflat: parse arguments, run a command, print an error, exit.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
