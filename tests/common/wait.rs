//! Waiting for what others do, on a machine that may be busy: for as long as they run, and not for ever.

use std::process::Child;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Nothing that comes at all takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// Waits until something is so. `what` is said of it where it never is.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(STEP);
    }
}

/// Waits until something is so that a process brings about, which must not end before.
#[track_caller]
pub fn while_it_runs(child: &mut Child, what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || {
        let ended = child.try_wait().unwrap();
        let so = is_so();
        assert!(so || ended.is_none(), "{what}: it ended: {ended:?}");
        so
    });
}

/// What another thread tells.
#[track_caller]
pub fn told<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something to be told")
}
