//! `layflat run`

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use layflat::Owners;
use layflat::bundle::{Bind, Overrides};
use layflat::container::{Container, Handles, Network, Running, init, start};
use layflat::metadata::Stacking;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator;

use super::arguments::Common;
use super::bundle::variable;
use super::exit::NOT_STARTED;
use super::mount::CachedArgs;
use super::output;
use super::signals::{Signals, heeded};

/// The signals that the container's program gets.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// The status for arguments that make no sense: that of `run` differs.
pub(crate) fn usage(status: u8) -> u8 {
    let is_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
    if status != 0 && is_run { NOT_STARTED } else { status }
}

/// Run a command in an image: a container without a container engine
///
/// The command runs in user, mount, pid, ipc and uts namespaces of its own, as the image says unless an option says otherwise. The
/// image is unpacked into the cache, once, and mounted with a layer in memory on top, which is gone with the command. The network is
/// the host's, unless --net none is given. This is no sandbox for hostile programs: there is no seccomp, and no limit on memory or
/// processors; use `layflat bundle` with runc or crun for that.
///
/// It ends as the command does: with its status, or with 128+N for signal N. 125 is an error of layflat, 126 a command that cannot be run, 127 one that is
/// not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat run docker://alpine
  layflat run --bind . --workdir \"$PWD\" docker://python:3 python3 test.py
  layflat run --read-only --net none app.tar /bin/app --check")]
pub(crate) struct Run {
    /// Show a file or directory of the host in the container, at the same path or at DST. Repeatable
    #[arg(long = "bind", value_name = "SRC[:DST[:ro]]")]
    binds: Vec<String>,
    /// Set an environment variable; without =VALUE, pass on its value. Repeatable
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "PATH")]
    workdir: Option<String>,
    /// User and group to run as: names, or numbers
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program to run; replaces the image's Entrypoint and drops its Cmd. "" drops both
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Network: host or none
    #[arg(long, value_name = "NETWORK", default_value = "host")]
    net: NetArg,
    /// Host name in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Do not allow writing to the root file system
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    cached: CachedArgs,
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// The command and its arguments, in the place of the image's Cmd
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum NetArg {
    /// The host's
    Host,
    /// None, not even the loopback interface
    None,
}

/// The first process of the container; `run` starts it.
#[derive(Debug, Args)]
pub(crate) struct RunInit {
    process: u32,
    container: i32,
    signals: i32,
}

impl RunInit {
    pub(crate) fn run(&self, common: &Common) -> u8 {
        let handles = Handles { process: self.process, container: self.container, signals: self.signals };
        match init(handles, &|note| output::note(common, note, None)) {
            Ok(ended) => ended.status,
            Err(error) => {
                let status = error.status();
                output::error(&error.into());
                status
            }
        }
    }
}

impl Run {
    pub(crate) fn run(&self, common: &Common, signals: &Signals) -> anyhow::Result<u8> {
        let overrides = self.overrides()?;
        let how = self.cached.backend.how(Stacking::MergedBelow)?;
        if self.cached.backend.is_fuse() {
            bail!("--backend fuse: a container's image is mounted by the kernel");
        }
        // An archive may lie where the container's files are mounted over it.
        if how.in_place {
            bail!("--in-place: a container's image is taken from the cache");
        }
        self.cached.unpack.owners.enter(common)?;
        let cancel = &signals.cancel;
        let image = self.cached.open(&self.image, cancel)?;
        let owners = if self.cached.unpack.owners.is_recorded() { Owners::Recorded } else { Owners::AsTheyAre };
        // Held until it has ended.
        let ready = self.cached.ready_image(&image, &how, owners, common, cancel)?;
        let layout = ready.path().canonicalize().with_context(|| format!("{:?}", ready.path()))?;
        let mut container = Container::new(image.config.as_ref(), layout, self.cached.directory()?, overrides);
        container.network = match self.net {
            NetArg::Host => Network::Host,
            NetArg::None => Network::None,
        };
        let mut coming = iterator::Signals::new(heeded(&PASSED_ON))?;
        coming.add_signal(SIGCHLD)?;
        signals.release();
        anyhow::ensure!(!cancel.is_cancelled(), "interrupted");
        let mut running = start(&container, |handles| {
            let Handles { process, container, signals } = handles;
            let quiet = common.quiet.then(|| "--quiet".to_owned());
            let init = ["run-init".to_owned(), process.to_string(), container.to_string(), signals.to_string()];
            quiet.into_iter().chain(init).collect()
        })?;
        wait(&mut running, &mut coming)
    }

    fn overrides(&self) -> anyhow::Result<Overrides> {
        Ok(Overrides {
            entrypoint: self.entrypoint.clone(),
            arguments: (!self.command.is_empty()).then(|| self.command.clone()),
            environment: self.environment.iter().map(|text| variable(text)).collect::<anyhow::Result<_>>()?,
            user: self.user.clone(),
            cwd: self.workdir.clone(),
            hostname: self.hostname.clone(),
            terminal: std::io::IsTerminal::is_terminal(&std::io::stdin()),
            read_only: self.read_only,
            binds: self.binds.iter().map(|text| bind(text)).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// `SRC[:DST[:ro]]`; without DST it is shown where it is.
fn bind(text: &str) -> anyhow::Result<Bind> {
    if let Ok(bind) = text.parse::<Bind>() {
        let is_root = Path::new(&bind.destination).components().all(|part| matches!(part, Component::RootDir));
        anyhow::ensure!(!is_root, "--bind {text:?}: DST is the root, which would hide the image");
        return Ok(bind);
    }
    let (source, read_only) = match text.strip_suffix(":ro") {
        Some(source) => (source, true),
        None => (text, false),
    };
    let destination = Path::new(source).canonicalize().with_context(|| format!("--bind {text:?}"))?;
    match destination.into_os_string().into_string() {
        Ok(destination) => Ok(Bind { source: PathBuf::from(source), destination, read_only }),
        Err(_) => bail!("--bind {text:?}: its path is not UTF-8; give another one as DST"),
    }
}

/// Waits for the container, and passes signals on to it.
fn wait(running: &mut Running, coming: &mut iterator::Signals) -> anyhow::Result<u8> {
    loop {
        if let Some(status) = running.ended()? {
            use std::os::unix::process::ExitStatusExt as _;
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED));
        }
        for signal in coming.wait() {
            // From the keyboard it has come to the program itself, too.
            let is_of_keyboard = matches!(signal, SIGINT | SIGQUIT) && has_terminal();
            if signal != SIGCHLD && !is_of_keyboard {
                running.signal(u8::try_from(signal).unwrap_or_default());
            }
        }
    }
}

/// Whether the keyboard's signals come to us.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
