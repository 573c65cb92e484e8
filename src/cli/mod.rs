//! The command line: one file a command. Arguments in, the library's work, reports out; nothing imports this.

mod arguments;
mod cache;
mod completions;
mod copy;
mod diff;
mod filters;
mod flatten;
mod inspect;
mod layers;
mod man;
mod mount;
mod output;
mod pack;
mod progress;
mod signals;
mod squash;
mod table;
mod umount;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::Common;

/// Success, or equality.
const SUCCESS: u8 = 0;
/// Any failure; for `diff`, trees that differ.
const FAILURE: u8 = 1;
/// Arguments that make no sense; for `diff`, any trouble.
const TROUBLE: u8 = 2;

/// Turn container images into file systems, exactly as the specification says: overlayfs lowerdirs that the kernel
/// mounts, or one flat rootfs.
#[derive(Debug, Parser)]
#[command(name = "layflat", version, max_term_width = 100, arg_required_else_help = true, after_help = IMAGE_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const IMAGE_HELP: &str = "\
IMAGE is one of
  docker://[HOST/]NAME[:TAG]      at a registry, Docker Hub if there is no HOST[:PORT]; or NAME@DIGEST
  docker-daemon:NAME[:TAG]        in the store of a Docker or Podman that runs
  docker-archive:FILE[:NAME:TAG]  as `docker save`, podman, skopeo, buildah and kaniko write it
  oci:DIR[:TAG]                   an OCI image layout
  oci-archive:FILE[:TAG]          an OCI image layout in a tar file
  dir:DIR                         an unpacked docker archive, or a directory that skopeo wrote
  layers:A.tar,B.tar.gz           bare layers, bottom first
  PATH                            an archive, a layout or a directory, recognised by its content
FILE may be compressed, and `-` is standard input.";

#[derive(Debug, Subcommand)]
enum Command {
    Flatten(flatten::Flatten),
    Layers(layers::Layers),
    Mount(mount::Mount),
    Umount(umount::Umount),
    Diff(diff::Diff),
    Inspect(inspect::Inspect),
    Pack(pack::Pack),
    Copy(copy::Copy),
    Squash(squash::Squash),
    Cache(cache::Cache),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Takes as many file handles as the system lets us have: the usual soft limit is for programs that use `select`, and an image
/// of many layers has many directories open at once.
fn raise_handle_limit() {
    let limit = getrlimit(Resource::Nofile);
    // With fewer it is slower, no more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    raise_handle_limit();
    let cancel = signals::cancel_on_signal();
    let trouble = if matches!(cli.command, Command::Diff(_)) { TROUBLE } else { FAILURE };
    let common = &cli.common;
    let result = match cli.command {
        Command::Flatten(command) => command.run(common, &cancel),
        Command::Layers(command) => command.run(common, &cancel),
        Command::Mount(command) => command.run(common, &cancel),
        Command::Umount(command) => command.run(common),
        Command::Diff(command) => command.run(common, &cancel),
        Command::Inspect(command) => command.run(common, &cancel),
        Command::Pack(command) => command.run(common, &cancel),
        Command::Copy(command) => command.run(common, &cancel),
        Command::Squash(command) => command.run(common, &cancel),
        Command::Cache(command) => command.run(common),
        Command::Completions(command) => command.run(&mut Cli::command()),
        Command::Man(command) => command.run(&Cli::command()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::from(SUCCESS),
        Err(error) => {
            output::error(&error);
            ExitCode::from(trouble)
        }
    }
}
