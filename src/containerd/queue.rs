//! Who works at once, and who waits for that, in the order in which they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tonic::Status;

use super::{Event, Tell};

/// A queue. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    // It hands out its permits in the order in which they were asked for.
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    tell: Tell,
}

/// The turn of one, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// One that waits. If it is dropped, it does so no more.
struct Place<'a>(&'a AtomicUsize);

impl Queue {
    pub(super) fn of(at_once: usize, tell: Tell) -> Self {
        let turns = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Self { turns, waiting: Arc::default(), tell }
    }

    /// Waits until it is the caller's turn, who says for what. Whoever gives up drops this.
    pub(super) async fn turn(&self, what: impl FnOnce() -> String) -> Result<Turn, Status> {
        let closed = || Status::unavailable("layflat: layflat-containerd is ending, and begins nothing new");
        match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(permit) => return Ok(Turn { _permit: permit }),
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        self.tell.tell(&Event::Waiting { what: what(), before });
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        drop(place);
        permit.map(|permit| Turn { _permit: permit }).map_err(|_| closed())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sends away those that wait, and whoever comes.
    pub(super) fn close(&self) {
        self.turns.close();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
