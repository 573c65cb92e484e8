//! Waiting for another process that is making what is wanted, rather than making it a second time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::core::cancel::Cancel;
use crate::notes::Notes;

/// Who waits for so long is told why.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// How often is looked: locks of flock(2) can be waited for, but such a wait obeys no [`Cancel`].
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);
/// Who waits long looks less often: a thousand nodes may wait for one.
const LONGEST_OF_ALL: Duration = Duration::from_secs(1);
/// Waiting takes so much longer than it must, at most.
const SHARE: u32 = 32;

/// Who fetches a blob and gets nothing for so long is not waited for. It is longer than any pause that is not the end: an answer that a registry
/// has to fetch from another one first, a disk that takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What ends waiting early, and who hears of it.
#[derive(Debug, Clone)]
pub struct Waiting {
    cancel: Cancel,
    notes: Notes,
    patience: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new(Cancel::default(), Notes::default())
    }
}

impl Waiting {
    /// Waits until this is cancelled, and tells these.
    pub fn new(cancel: Cancel, notes: Notes) -> Self {
        Self { cancel, notes, patience: PATIENCE }
    }

    /// The same, where those who fetch blobs are waited for only so long if nothing comes.
    #[cfg(test)]
    pub(super) fn no_longer_than(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, with nobody told: what is waited for is this process's own.
    pub(super) fn silently(&self) -> Self {
        Self { notes: Notes::default(), ..self.clone() }
    }

    /// Tells a note.
    pub(super) fn tell(&self, note: String) {
        self.notes.tell(note);
    }

    /// Whether the work was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Who fetches a blob and gets nothing for so long is not waited for.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks `ready` until it gives something; nothing if the work was cancelled. `what`: what the other process does.
    pub(crate) fn until<T>(&self, what: &dyn Display, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let began = Instant::now();
        let mut pause = SHORTEST;
        loop {
            if let Some(found) = ready() {
                return Some(found);
            }
            if self.cancel.is_cancelled() {
                return None;
            }
            if began.elapsed() >= TELL_AFTER {
                self.notes.tell(format!("waiting for another process, which {what}"));
            }
            let until = Instant::now() + pause;
            while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
                if self.cancel.is_cancelled() {
                    return None;
                }
                std::thread::sleep(rest.min(LONGEST));
            }
            pause = (pause * 2).min((began.elapsed() / SHARE).clamp(LONGEST, LONGEST_OF_ALL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn who_waits_for_a_second_is_told_once() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&heard);
        let waiting = Waiting::new(Cancel::default(), Notes::to(move |note| ear.lock().unwrap().push(note.to_owned())));
        assert_eq!(waiting.until(&"is quick", || Some(1)), Some(1));
        // Looked at three times more after that was said.
        let mut looks = 0;
        let slow = waiting.until(&"unpacks it", || {
            looks += usize::from(!heard.lock().unwrap().is_empty());
            (looks > 3).then_some(2)
        });
        assert_eq!(slow, Some(2));
        assert_eq!(*heard.lock().unwrap(), ["waiting for another process, which unpacks it"]);
    }

    #[test]
    fn a_cancelled_wait_ends() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert_eq!(Waiting::new(cancel, Notes::default()).until(&"never ends", || None::<()>), None);
    }
}
