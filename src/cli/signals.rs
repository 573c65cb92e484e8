//! Signals. The first one cancels the work, which then removes its partial output. Afterwards the program ends by the
//! same signal, so that the caller sees why: a shell stops its loop after Ctrl-C.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use layflat::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ};
use signal_hook::low_level::emulate_default_handler;

use super::output;

/// The signals that stop the work.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// The switch that they turn.
    pub(crate) cancel: Cancel,
    /// Those that are listened to.
    heard: Vec<i32>,
    /// The last one that came; 0 while there was none.
    came: Arc<AtomicUsize>,
    /// Whether the user was told.
    said: Arc<AtomicBool>,
}

impl Signals {
    /// Listens to SIGINT, SIGTERM and SIGHUP. A second signal ends the program at once.
    pub(crate) fn listen() -> Self {
        let mut signals =
            Self { cancel: Cancel::default(), heard: Vec::new(), came: Arc::default(), said: Arc::default() };
        // A file that becomes larger than a limit of the process (RLIMIT_FSIZE) is an error like a full disk. A handler, and
        // not ignored: what we start has the limit, too, and is to die of it.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // What nohup, or a shell for its background jobs, ignores stays ignored.
            if ignored >> (signal - 1) & 1 == 1 {
                continue;
            }
            // In this order: the conditional default only sees signals after the first.
            let flag = signals.cancel.flag();
            let registered = signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(&signals.came), signal as usize))
                .and_then(|_| signal_hook::flag::register(signal, flag));
            // Without it a signal ends the program as if nothing had been arranged; no reason not to work.
            if registered.is_ok() {
                signals.heard.push(signal);
            }
        }
        signals
    }

    /// Has each of them write a byte to a socket, too.
    pub(crate) fn tell(&self, socket: &UnixStream) -> std::io::Result<()> {
        self.heard
            .iter()
            .try_for_each(|&signal| signal_hook::low_level::pipe::register(signal, socket.try_clone()?).map(drop))
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst) != 0
    }

    /// Tells the user, once, why the work ends, whatever it makes of that itself.
    pub(crate) fn say(&self, is_clean: bool) {
        if !self.said.swap(true, Ordering::SeqCst) {
            output::problem(if is_clean { "interrupted; no partial output was left" } else { "interrupted" });
        }
    }

    /// Dies of the signal that came, if one did.
    pub(crate) fn die(&self) {
        let signal = i32::try_from(self.came.load(Ordering::SeqCst)).unwrap_or_default();
        if signal != 0 {
            // It only returns for signals that do not end a program.
            let _ = emulate_default_handler(signal);
        }
    }
}

/// Dies of SIGPIPE, as other programs do when nobody reads their output any more. It is ignored while we work, since a
/// connection that breaks is an error like others.
pub(crate) fn die_of_broken_pipe() {
    let _ = emulate_default_handler(SIGPIPE);
}

/// The signals that were ignored when the program began: bit 0 is signal 1 (proc(5), SigIgn).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
