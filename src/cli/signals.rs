//! Signals. The first one cancels the work, which then removes its partial output. Afterwards the program ends by the
//! same signal, so that the caller sees why: a shell stops its loop after Ctrl-C.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layflat::Cancel;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ};
use signal_hook::low_level::{emulate_default_handler, unregister};

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
    /// What was arranged.
    actions: Arc<Mutex<Vec<SigId>>>,
}

impl Signals {
    /// Listens to SIGINT, SIGTERM and SIGHUP. A second signal ends the program at once.
    pub(crate) fn listen() -> Self {
        let mut signals = Self {
            cancel: Cancel::default(),
            heard: Vec::new(),
            came: Arc::default(),
            said: Arc::default(),
            actions: Arc::default(),
        };
        // A file that becomes larger than a limit of the process (RLIMIT_FSIZE) is an error like a full disk. A handler, and
        // not ignored: what we start has the limit, too, and is to die of it.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
        for signal in heeded(&[SIGINT, SIGTERM, SIGHUP]) {
            // In this order: the conditional default only sees signals after the first.
            let flag = signals.cancel.flag();
            let registered = [
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag)),
                signal_hook::flag::register_usize(signal, Arc::clone(&signals.came), signal as usize),
                signal_hook::flag::register(signal, flag),
            ];
            // Without it a signal ends the program as if nothing had been arranged; no reason not to work.
            if registered.iter().all(Result::is_ok) {
                signals.heard.push(signal);
            }
            signals.actions().extend(registered.into_iter().flatten());
        }
        signals
    }

    /// Has each of them write a byte to a socket, too.
    pub(crate) fn tell(&self, socket: &UnixStream) -> std::io::Result<()> {
        self.heard.iter().try_for_each(|&signal| {
            let action = signal_hook::low_level::pipe::register(signal, socket.try_clone()?)?;
            self.actions().push(action);
            Ok(())
        })
    }

    /// Leaves the signals to somebody else.
    pub(crate) fn release(&self) {
        for action in self.actions().drain(..) {
            unregister(action);
        }
    }

    fn actions(&self) -> MutexGuard<'_, Vec<SigId>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Those of the signals that are not ignored: what nohup, or a shell for its background jobs, ignores stays ignored.
pub(crate) fn heeded(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored();
    signals.iter().copied().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// The signals that are ignored: bit 0 is signal 1 (proc(5), SigIgn).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
