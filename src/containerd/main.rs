//! layflat-containerd: reads its arguments, listens, and writes what happens to standard error.

mod options;

use std::error::Error;
use std::io::Write;
use std::num::NonZero;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use layflat::containerd::{Backend, Event, MetricsListener, Settings, Tell, listen, serve};
use layflat::core::chain::Chain;
use layflat::core::limits::Limits;

use options::{Log, Options};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed standard error wants to hear nothing.
            let _ = writeln!(std::io::stderr(), "layflat-containerd: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let options = options.with_file()?;
    layflat::fs::raise_handle_limit();
    let or = |path: Option<PathBuf>, default: &str| path.unwrap_or_else(|| default.into());
    let log = options.log.unwrap_or(Log::Text);
    let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let backend = match options.backend {
        Some(options::Backend::Erofs) if options.root.is_none() => {
            return Err("the backend erofs is for snapshots of its own: say root, too".into());
        }
        Some(options::Backend::Erofs) => Backend::Erofs,
        Some(options::Backend::Overlay) | None => Backend::Overlay,
    };
    let settings = Settings {
        root: options.root,
        backend,
        containerd_root: or(options.containerd_root, "/var/lib/containerd"),
        containerd_address: or(options.containerd_address, "/run/containerd/containerd.sock"),
        jobs: options.jobs.unwrap_or(processors),
        layer_jobs: options.layer_jobs,
        limits: Limits { memory: options.memory.map_or(u64::MAX, |memory| memory.0), ..Limits::default() },
        no_sync: options.no_sync,
        grace: Duration::from_secs(options.grace.unwrap_or(30)),
        tell: Tell::to(move |event| write(log, event)),
    };
    let listener = listen(&or(options.address, "/run/layflat-containerd.sock"))?;
    let metrics = options.metrics.as_deref().map(MetricsListener::at).transpose()?;
    Ok(serve(listener, metrics, settings, ready)?)
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
