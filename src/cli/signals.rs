//! Signals: the first one stops the work, which then takes away what it made.

use layflat::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A switch that SIGINT, SIGTERM and SIGHUP turn. A second signal ends the program at once.
pub(crate) fn cancel_on_signal() -> Cancel {
    let cancel = Cancel::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the conditional shutdown only sees signals after the first.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, cancel.flag())
            .and_then(|_| signal_hook::flag::register(signal, cancel.flag()));
        // Without it a signal ends the program as if nothing had been arranged; no reason not to work.
        drop(registered);
    }
    cancel
}
