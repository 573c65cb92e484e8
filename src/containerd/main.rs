//! layflat-containerd: reads its arguments, listens, and writes what happens to standard error.

use std::io::Write;
use std::num::NonZero;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use layflat::containerd::{Event, MetricsListener, Settings, Tell, listen, serve};
use layflat::core::chain::Chain;

/// Unpacks layers for containerd, so that containers see what the image means: as its snapshotter and differ, with --root,
/// or as a differ alone, for the directories of containerd's own overlayfs snapshotter. docs/containerd.md has containerd's
/// configuration.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Listen on this socket, which only the caller's user can connect to
    #[arg(long, value_name = "SOCKET", default_value = "/run/layflat-containerd.sock")]
    address: PathBuf,
    /// Be a snapshotter as well, and keep the snapshots in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// containerd's root directory, in which its content store is
    #[arg(long, value_name = "DIR", default_value = "/var/lib/containerd")]
    containerd_root: PathBuf,
    /// containerd's socket, to give it layers that are made of containers
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    containerd_address: PathBuf,
    /// Unpack so many layers at the same time; more wait [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Do not wait until a layer is on disk: a power loss soon after may leave empty files in it
    #[arg(long)]
    no_sync: bool,
    /// When told to end, let layers be finished for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Show metrics to Prometheus, by HTTP at /metrics: on this socket, which only the caller's user can connect to, or on an IP
    /// address and port, to whoever can connect to it
    #[arg(long, value_name = "SOCKET|IP:PORT")]
    metrics: Option<String>,
    /// How each line of the log is written
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = arguments.log;
    let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let settings = Settings {
        root: arguments.root,
        containerd_root: arguments.containerd_root,
        containerd_address: arguments.containerd_address,
        jobs: arguments.jobs.unwrap_or(processors),
        no_sync: arguments.no_sync,
        grace: Duration::from_secs(arguments.grace),
        tell: Tell::to(move |event| write(log, event)),
    };
    let served = || {
        let listener = listen(&arguments.address)?;
        let metrics = arguments.metrics.as_deref().map(MetricsListener::at).transpose()?;
        serve(listener, metrics, settings, ready)
    };
    match served() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed standard error wants to hear nothing.
            let _ = writeln!(std::io::stderr(), "layflat-containerd: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn write(log: Log, event: &Event) {
    let line = match log {
        // The priority is for the journal (sd-daemon(3)).
        Log::Text => format!("{}{event}\n", if event.is_problem() { "<4>" } else { "<6>" }),
        Log::Json => serde_json::to_string(event).unwrap_or_default() + "\n",
    };
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Tells systemd that the socket is there (sd_notify(3)), if it has asked.
fn ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    // systemd gives up on a unit that does not answer, and says so.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
}
