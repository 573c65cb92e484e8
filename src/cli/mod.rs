//! The command line: one file a command. Arguments in, the library's work, reports out; nothing imports this.

mod arguments;
mod bundle;
mod cache;
mod cat;
mod check;
mod completions;
mod copy;
mod diff;
mod digest;
mod ends;
mod filters;
mod find;
mod flatten;
mod inspect;
mod layers;
mod log;
mod ls;
mod man;
mod mount;
mod output;
mod overlap;
mod owners;
mod pack;
mod progress;
mod signals;
mod squash;
mod table;
mod tags;
mod umount;
mod unshare;
mod waste;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::Common;
use signals::Signals;

/// Success, or equality.
const SUCCESS: u8 = 0;
/// Any failure; for `diff`, trees that differ; for `check`, an image that is not sound.
const FAILURE: u8 = 1;
/// Arguments that make no sense; for `diff` and `check`, any trouble.
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
FILE may be compressed, and `-` is standard input, or standard output where `copy` writes.

Of containers' configuration these files are read, each from ~/.config/containers or /etc/containers:
  registries.conf, registries.conf.d   mirrors, locations, insecure and blocked registries of docker://;
                                       or the file that CONTAINERS_REGISTRIES_CONF names
  policy.json                          which images may be used (--policy, --no-policy)
Short names (aliases, unqualified-search-registries) are suggested, but never pulled unasked.";

#[derive(Debug, Subcommand)]
enum Command {
    Flatten(flatten::Flatten),
    Layers(layers::Layers),
    Mount(Box<mount::Mount>),
    Umount(umount::Umount),
    Bundle(Box<bundle::Bundle>),
    Unshare(Box<unshare::Unshare>),
    Diff(diff::Diff),
    Inspect(inspect::Inspect),
    Tags(tags::Tags),
    Digest(digest::Digest),
    Ls(ls::Ls),
    Find(find::Find),
    Log(log::Log),
    Cat(cat::Cat),
    Waste(waste::Waste),
    Check(check::Check),
    Copy(copy::Copy),
    Squash(squash::Squash),
    Pack(pack::Pack),
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(output::usage(&error)),
    };
    output::be_quiet(cli.common.quiet);
    // What `unshare` runs has limits of its own.
    if !matches!(cli.command, Command::Unshare(_)) {
        raise_handle_limit();
    }
    output::be_quiet(cli.common.quiet);
    let signals = Signals::listen();
    let cancel = signals.cancel.clone();
    let trouble = if matches!(cli.command, Command::Diff(_) | Command::Check(_)) { TROUBLE } else { FAILURE };
    let common = &cli.common;
    let result = match cli.command {
        Command::Flatten(command) => command.run(common, &cancel),
        Command::Layers(command) => command.run(common, &cancel),
        Command::Mount(command) => command.run(common, &cancel),
        Command::Umount(command) => command.run(common),
        Command::Bundle(command) => command.run(common, &cancel),
        Command::Unshare(command) => command.run(common, &cancel),
        Command::Diff(command) => command.run(common, &cancel),
        Command::Inspect(command) => command.run(common, &cancel),
        Command::Tags(command) => command.run(common, &cancel),
        Command::Digest(command) => command.run(common, &cancel),
        Command::Ls(command) => command.run(common, &cancel),
        Command::Find(command) => command.run(common, &cancel),
        Command::Log(command) => command.run(common, &cancel),
        Command::Cat(command) => command.run(common, &cancel),
        Command::Waste(command) => command.run(common, &cancel),
        Command::Check(command) => command.run(common, &cancel),
        Command::Copy(command) => command.run(common, &cancel),
        Command::Squash(command) => command.run(common, &cancel),
        Command::Pack(command) => command.run(common, &cancel),
        Command::Cache(command) => command.run(common),
        Command::Completions(command) => command.run(&mut Cli::command()),
        Command::Man(command) => command.run(&Cli::command()),
    };
    let code = match result {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => {
            signals::die_of_broken_pipe();
            SUCCESS
        }
        Err(error) => {
            output::error(&error);
            trouble
        }
    };
    // All is cleaned up.
    signals.die();
    ExitCode::from(code)
}
