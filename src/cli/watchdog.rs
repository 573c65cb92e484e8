//! Ends the program after a signal that its work does not notice.
//!
//! Work looks at its switch, but not while the kernel keeps it: at a pipe that nobody reads, at a lock, at a disk or a server that hangs.
//! A thread of its own waits for the signal instead, gives the work a moment, removes what is unfinished, and lets the program die.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::output;
use super::signals::Signals;

/// How soon work notices a signal, or is not waited for any more.
const GRACE: Duration = Duration::from_millis(300);
/// So long is waited for what is unfinished to be removed, which goes on without us.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a thread that has ended may still be counted.
const ENDING: Duration = Duration::from_secs(1);
/// What is sent to the thread for it to end. Signals send another byte.
const STOP: u8 = b'.';

static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

/// The thread, and its telephone.
#[derive(Debug)]
struct Watchdog {
    signals: Signals,
    hears: UnixStream,
    speaks: UnixStream,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Begins to watch. Where it cannot, signals still cancel the work, and the second one ends the program.
pub(crate) fn watch(signals: &Signals) {
    let Ok((hears, speaks)) = UnixStream::pair() else { return };
    if signals.tell(&speaks).is_err() {
        return;
    }
    let watchdog = || Watchdog { signals: signals.clone(), hears, speaks, thread: Mutex::default() };
    WATCHDOG.get_or_init(watchdog).start();
}

/// Does something for which the process must have one thread: entering a user namespace.
pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
    let Some(watchdog) = WATCHDOG.get() else { return work() };
    watchdog.stop();
    let done = work();
    watchdog.start();
    done
}

impl Watchdog {
    fn start(&'static self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Builder::new().name("signals".to_owned()).spawn(|| self.run()).ok();
        }
    }

    fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if (&self.speaks).write_all(&[STOP]).is_err() || thread.join().is_err() {
            return;
        }
        // The kernel counts it for a moment longer than pthread_join(3) waits for.
        let ended = Instant::now();
        while threads() > 1 && ended.elapsed() < ENDING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn run(&self) {
        let mut byte = [0];
        // One may have come before it was heard here.
        while !self.signals.came() {
            match (&self.hears).read(&mut byte) {
                Ok(1) if byte[0] != STOP => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
        std::thread::sleep(GRACE);
        let until = Instant::now() + PATIENCE;
        let (done, is_done) = sync_channel(1);
        let removing = Builder::new().spawn(move || {
            layflat::fs::abandon(until);
            done.send(())
        });
        match removing {
            Ok(_) => drop(is_done.recv_timeout(PATIENCE)),
            Err(_) => layflat::fs::abandon(until),
        }
        let left = layflat::fs::unfinished();
        self.signals.say(left.is_empty());
        for path in left {
            output::warn(format_args!(
                "the temporary directory {path:?} is still being removed; if it stays, the next run in the same place removes it"
            ));
        }
        self.signals.die();
    }
}

/// How many threads the process has (proc_pid_task(5)).
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
