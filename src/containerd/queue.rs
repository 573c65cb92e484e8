//! Who works at once, and who waits for that, in the order in which they came.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

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
        let mut permit = pin!(Arc::clone(&self.turns).acquire_owned());
        // It has its place in the queue from when it is first asked for: before anybody is told that it waits, and comes after it.
        let permit = match poll_fn(|context| Poll::Ready(permit.as_mut().poll(context))).await {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                let before = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _place = Place(&self.waiting);
                self.tell.tell(&Event::Waiting { what: what(), before });
                permit.await
            }
        };
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::{Mutex, OnceLock};
    use std::task::{Context, Waker};

    use super::*;

    /// Somebody who wants a turn.
    type Caller = Pin<Box<dyn Future<Output = Turn> + Send>>;

    fn caller(queue: &Queue) -> Caller {
        let queue = queue.clone();
        Box::pin(async move { queue.turn(String::new).await.unwrap() })
    }

    fn polled(caller: &mut Caller) -> Poll<Turn> {
        caller.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_comes_when_it_is_told_that_another_one_waits_comes_after_it() {
        let (itself, second): (Arc<OnceLock<Queue>>, Arc<Mutex<Option<Caller>>>) = Default::default();
        let (own, comes) = (Arc::clone(&itself), Arc::clone(&second));
        let tell = Tell::to(move |event| {
            if matches!(event, Event::Waiting { before: 0, .. }) {
                let mut caller = caller(own.get().unwrap());
                assert!(polled(&mut caller).is_pending());
                *comes.lock().unwrap() = Some(caller);
            }
        });
        let queue = itself.get_or_init(|| Queue::of(1, tell));
        let Poll::Ready(turn) = polled(&mut caller(queue)) else { panic!("nobody works") };
        let mut first = caller(queue);
        assert!(polled(&mut first).is_pending());
        drop(turn);
        let mut second = second.lock().unwrap().take().unwrap();
        assert!(polled(&mut second).is_pending());
        assert!(polled(&mut first).is_ready());
        assert!(polled(&mut second).is_ready());
        assert_eq!(queue.waiting(), 0);
    }
}
