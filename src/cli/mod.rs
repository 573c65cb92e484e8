//! The command line: one file per command. Arguments in, the library's work, reports out; nothing imports this.

mod append;
mod arguments;
mod backend;
mod bundle;
mod cache;
mod cat;
mod changes;
mod check;
mod complete;
mod completions;
mod config;
mod copy;
mod cp;
mod diff;
mod digest;
mod edit;
mod ends;
mod exit;
#[cfg(feature = "explore")]
mod explore;
mod export;
mod filters;
mod find;
mod flatten;
mod gate;
mod grep;
mod help;
mod hints;
mod inspect;
mod layers;
mod log;
mod ls;
mod made;
mod man;
mod missing;
mod mount;
mod output;
mod overlap;
mod owners;
mod pack;
mod progress;
mod report;
mod run;
mod signals;
mod squash;
mod table;
mod tags;
mod tips;
mod umount;
mod unshare;
mod waste;
mod watchdog;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use arguments::Common;
use exit::{FAILURE, SUCCESS, TROUBLE};
use layflat::core::chain::Chain;
use signals::Signals;

/// Unpack container images without an engine, exactly as the specification says
#[derive(Debug, Parser)]
#[command(name = "layflat", version, max_term_width = 80, arg_required_else_help = true)]
#[command(help_template = TEMPLATE, after_help = SHORT_HELP, after_long_help = LONG_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[cfg(feature = "explore")]
macro_rules! explore_line {
    () => {
        "  explore      Browse an image in the terminal, layer by layer\n"
    };
}
#[cfg(not(feature = "explore"))]
macro_rules! explore_line {
    () => {
        ""
    };
}

/// The top-level help. Clap cannot group subcommands; a test checks that none is missing here.
const TEMPLATE: &str = concat!(
    "\
{about-with-newline}
{usage-heading} {usage}

Unpack
  flatten      Unpack an image into one root file system, or .tar, .erofs, …
  layers       Unpack each layer into its own directory, ready for overlayfs
  mount        Mount an image or unpacked layers with overlayfs
  umount       Unmount it
  run          Run a command in an image: a container without an engine
  bundle       Make an OCI runtime bundle for runc or crun
  export       Make one file of an image in the cache, for all who share it
  cp           Copy files and directories out of an image
  unshare      Run a command in a user and mount namespace (rootless mounts)
Look inside (nothing is unpacked)
  inspect      Show the configuration, the layers, and what each changes
",
    explore_line!(),
    "  ls           List files
  cat          Print a file
  find         Find files in any layer
  grep         Search the contents of files
  log          Show which layers touched a path
  waste        Show bytes that are shipped but replaced or deleted later
  report       Write an HTML or Markdown report
  check        Validate an image; find secrets in files, history and ENV
  diff         Compare two images, directories or mounts
Convert and copy
  copy         Copy between registries, engines, archives, layouts (pull, push)
  tags         List the tags of a repository, or the images in an archive
  digest       Print the digest of an image's manifest
  append       Add layers to an image: archives or directories
  config       Change the configuration of an image
  squash       Merge layers
  pack         Turn an overlay upperdir into a layer
Housekeeping
  cache        List, verify or prune the cache
  completions  Print a completion script for a shell
  man          Write the man pages

Options:
{options}{after-help}"
);

const SHORT_HELP: &str = "\
IMAGE  docker://debian:12, app.tar, oci:DIR, docker-daemon:app:dev, - and others
Forms of IMAGE and examples: layflat --help. Options: layflat COMMAND -h";

const LONG_HELP: &str = "\
IMAGE is one of
  docker://[HOST/]NAME[:TAG]      registry; Docker Hub without HOST[:PORT]. Also NAME@DIGEST
  docker-daemon:NAME[:TAG]        the local Docker or Podman daemon
  docker-archive:FILE[:NAME:TAG]  by `docker save`, podman, skopeo, buildah, kaniko
  oci:DIR[:TAG]                   OCI image layout
  oci-archive:FILE[:TAG]          OCI image layout in a tar file
  dir:DIR                         unpacked docker archive, or a directory by skopeo
  layers:A.tar,B.tar.gz           bare layers, bottom first
  PATH                            archive, layout or directory, recognised by its content
FILE may be compressed. `-` is standard input; as a destination of `copy`, standard output.

Examples
  docker save app | layflat flatten - rootfs
  layflat flatten docker://alpine rootfs
  layflat diff docker://app:1.3 docker://app:1.4
  layflat find --all-layers app.tar 'id_rsa' '*.env'

Configuration, each file from ~/.config/containers or /etc/containers
  registries.conf, registries.conf.d   mirrors, insecure and blocked registries;
                                       or the file CONTAINERS_REGISTRIES_CONF
  policy.json                          which images may be used (--policy)
Short names (aliases, unqualified-search-registries) are suggested, but never
pulled without being asked.
Rules of a repository for check, waste and report: .layflat.toml in the working
directory

Exit status
  0  success; diff: equal; check, waste, cache verify: nothing to complain about
  1  failure; diff: different; check, waste: a rule is broken; cache verify:
     something is damaged; find: nothing is found
  2  invalid arguments; diff, check, waste, cache verify: any other failure
  run, unshare: that of the command; 126 if it cannot be run, 127 if it is
     not found; run: 125 for its own errors, 128+N if signal N ended it
After a signal it cleans up and dies of that signal.";

#[derive(Debug, Subcommand)]
enum Command {
    Flatten(flatten::Flatten),
    Layers(layers::Layers),
    Export(Box<export::Export>),
    Mount(Box<mount::Mount>),
    Umount(umount::Umount),
    Run(Box<run::Run>),
    #[command(hide = true)]
    RunInit(run::RunInit),
    Bundle(Box<bundle::Bundle>),
    Unshare(Box<unshare::Unshare>),
    Diff(diff::Diff),
    Inspect(inspect::Inspect),
    Tags(tags::Tags),
    Digest(digest::Digest),
    #[cfg(feature = "explore")]
    Explore(Box<explore::Explore>),
    Ls(ls::Ls),
    Find(find::Find),
    Log(log::Log),
    Cat(cat::Cat),
    Grep(grep::Grep),
    Cp(Box<cp::Cp>),
    Waste(waste::Waste),
    Check(Box<check::Check>),
    Report(Box<report::Report>),
    Copy(copy::Copy),
    Append(Box<append::Append>),
    Config(Box<config::Config>),
    Squash(squash::Squash),
    Pack(pack::Pack),
    Cache(cache::Cache),
    Complete(complete::Complete),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// The name of those that answer by their exit code, among others.
    fn that_may_decide(&self) -> &'static str {
        match self {
            Self::Diff(_) => "diff",
            Self::Check(_) => "check",
            Self::Waste(_) => "waste",
            Self::Grep(_) => "grep",
            Self::Cache(command) if command.is_verify() => "verify",
            _ => "",
        }
    }
}

/// What the arguments are parsed by.
fn command() -> clap::Command {
    help::folded(Cli::command())
}

/// The whole program.
pub(crate) fn main() -> ExitCode {
    made::start();
    if let Some(answer) = layflat::fs::asked_to_wait() {
        // Whoever does not hear it does it itself.
        let _ = writeln!(std::io::stdout(), "{answer}");
        return ExitCode::from(SUCCESS);
    }
    let parsed = command()
        .try_get_matches()
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command())));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(run::usage(output::usage(&tips::for_command(error)))),
    };
    output::be_quiet(cli.common.quiet);
    // A shell waits for it, at any moment.
    if let Command::Complete(command) = &cli.command {
        return ExitCode::from(command.run(self::command()).unwrap_or(FAILURE));
    }
    // The first process of a container has its own way with signals.
    if let Command::RunInit(command) = &cli.command {
        return ExitCode::from(command.run(&cli.common));
    }
    // What `unshare` and `run` run has limits of its own.
    if !matches!(cli.command, Command::Unshare(_) | Command::Run(_)) {
        layflat::fs::raise_handle_limit();
    }
    let signals = Signals::listen();
    watchdog::watch(&signals);
    // As it is running: its file may have been replaced meanwhile.
    layflat::fs::wait_elsewhere(|| std::process::Command::new("/proc/self/exe"), signals.cancel.flag());
    let cancel = signals.cancel.clone();
    let trouble = match &cli.command {
        Command::Run(_) => exit::NOT_STARTED,
        command if exit::decides(command.that_may_decide()) => TROUBLE,
        _ => FAILURE,
    };
    let common = &cli.common;
    let result = match cli.command {
        Command::Flatten(command) => command.run(common, &cancel),
        Command::Layers(command) => command.run(common, &cancel),
        Command::Export(command) => command.run(common, &cancel),
        Command::Mount(command) => command.run(common, &cancel),
        Command::Umount(command) => command.run(common),
        Command::Run(command) => command.run(common, &signals),
        Command::RunInit(command) => Ok(command.run(common)),
        Command::Bundle(command) => command.run(common, &cancel),
        Command::Unshare(command) => command.run(common, &cancel),
        Command::Diff(command) => command.run(common, &cancel),
        Command::Inspect(command) => command.run(common, &cancel),
        Command::Tags(command) => command.run(common, &cancel),
        Command::Digest(command) => command.run(common, &cancel),
        #[cfg(feature = "explore")]
        Command::Explore(command) => command.run(common, &cancel),
        Command::Ls(command) => command.run(common, &cancel),
        Command::Find(command) => command.run(common, &cancel),
        Command::Log(command) => command.run(common, &cancel),
        Command::Cat(command) => command.run(common, &cancel),
        Command::Grep(command) => command.run(common, &cancel),
        Command::Cp(command) => command.run(common, &cancel),
        Command::Waste(command) => command.run(common, &cancel),
        Command::Check(command) => command.run(common, &cancel),
        Command::Report(command) => command.run(common, &cancel),
        Command::Copy(command) => command.run(common, &cancel),
        Command::Append(command) => command.run(common, &cancel),
        Command::Config(command) => command.run(common, &cancel),
        Command::Squash(command) => command.run(common, &cancel),
        Command::Pack(command) => command.run(common, &cancel),
        Command::Cache(command) => command.run(common, &cancel),
        Command::Complete(command) => command.run(self::command()),
        Command::Completions(command) => command.run(&mut self::command()),
        Command::Man(command) => command.run(&self::command(), common),
    };
    let left = layflat::fs::take_leftovers();
    let code = match result {
        Ok(code) => code,
        // The reader of our output, like `head`, has seen enough.
        Err(error) if output::is_broken_pipe(&error) => {
            signals::die_of_broken_pipe();
            SUCCESS
        }
        // What the work makes of being stopped is of no interest.
        Err(_) if signals.came() => {
            signals.say(left.is_empty());
            trouble
        }
        Err(error) => {
            output::error(&error);
            trouble
        }
    };
    for left in left {
        output::warn(Chain(&left));
    }
    // All is cleaned up.
    signals.die();
    ExitCode::from(code)
}
