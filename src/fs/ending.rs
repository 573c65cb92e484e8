//! The end of a program that was told to end by a signal: what is unfinished is removed, and nothing is published any more.
//!
//! Work looks at [`Cancel`](crate::Cancel), but it cannot look while the kernel keeps it: at a pipe that nobody reads, at a lock, at a disk or a
//! server that hangs. A program that ends need not wait for that. [`abandon`] removes what the work would have removed on its way out, while
//! the work still is wherever it is; then the program may die. So that no half-removed tree appears at a destination, everything that
//! publishes holds [`publishing`] from its first rename on, which the end waits for and then forbids.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use rustix::io::{Errno, Result};

use super::aside;

/// Whether nothing is published any more.
static ENDED: RwLock<bool> = RwLock::new(false);
/// How much there is that only its own thread can put in order.
static HELD: Mutex<usize> = Mutex::new(0);
static RELEASED: Condvar = Condvar::new();

/// As long as this is held, the end of the program waits: for what is made in a work directory, or what is being published.
///
/// # Errors
/// `CANCELED`, if the program is ending.
pub(crate) fn publishing() -> Result<RwLockReadGuard<'static, bool>> {
    let ended = ENDED.read().unwrap_or_else(PoisonError::into_inner);
    if *ended { Err(Errno::CANCELED) } else { Ok(ended) }
}

/// Something that only the thread that made it can put in order: a terminal, a mount inside a work directory, a temporary directory of
/// another kind. As long as this lives, [`abandon`] waits.
#[derive(Debug)]
pub struct Held(());

/// See [`Held`].
pub fn hold() -> Held {
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RELEASED.notify_all();
    }
}

/// Forbids all publishing, and removes what is unfinished, whatever other threads are doing with it; for a program that is about to die.
/// What cannot be removed until then is left, and [`unfinished`] tells it.
pub fn abandon(until: Instant) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    while *held > 0 {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return;
        }
        held = RELEASED.wait_timeout(held, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(held);
    *ENDED.write().unwrap_or_else(PoisonError::into_inner) = true;
    aside::remove_all(until);
}

/// Where work directories of this process are that are not removed yet. The next run that works in the same place removes them.
pub fn unfinished() -> Vec<PathBuf> {
    aside::all()
}
