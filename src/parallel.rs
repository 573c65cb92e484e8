//! Work on several things at the same time, and the only place where threads are made.
//!
//! A system may refuse a thread: a container with a limit on processes, a user with too many. Then the work is done by
//! the threads that there are, if need be by the caller's alone; it is slower, and no error.

use std::io;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::bounded;

/// A thread of its own.
#[derive(Debug)]
pub(crate) struct Thread<T>(JoinHandle<Option<T>>);

impl<T> Thread<T> {
    /// What its work came to. There is always something, unless the thread was never told what to do.
    pub(crate) fn join(self) -> Option<T> {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Has a thread of its own do some work. Where there can be none, the work comes back, for the caller to do without.
pub(crate) fn spawn<T, W>(work: W) -> Result<Thread<T>, W>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    // What is given to a thread that cannot be made is lost, so the work is only handed over when there is one.
    let (give, take) = bounded::<W>(1);
    match Builder::new().spawn(move || take.recv().ok().map(|work| work())) {
        Ok(thread) => match give.send(work) {
            Ok(()) => Ok(Thread(thread)),
            Err(unsent) => Err(unsent.into_inner()),
        },
        Err(_) => Err(work),
    }
}

/// Does some work on another thread, and waits for it: for what changes the thread that it is done on.
///
/// # Errors
/// No thread can be made.
pub(crate) fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = Builder::new().spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Does the same work on so many threads, the caller's among them, and waits for all.
pub(crate) fn together<T: Send>(threads: usize, work: &(dyn Fn() -> T + Sync)) -> Vec<T> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| Builder::new().spawn_scoped(scope, work).ok()).collect();
        let own = work();
        let join = |other: std::thread::ScopedJoinHandle<'_, T>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(others.into_iter().map(join)).collect()
    })
}

/// Does two things at the same time.
pub(crate) fn both<A: Send, B: Send>(one: impl Fn() -> A + Sync, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = Builder::new().spawn_scoped(scope, &one);
        let other = other();
        let one = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => one(),
        };
        (one, other)
    })
}

/// Does `work` for each number of `order`, which has each number below its length once, with so many threads. The
/// results stand in the order of the numbers; what was not begun when `stop` was set is missing.
pub(crate) fn each<T: Send>(
    order: &[usize],
    jobs: usize,
    stop: &AtomicBool,
    work: &(dyn Fn(usize) -> T + Sync),
) -> Vec<Option<T>> {
    let next = AtomicUsize::new(0);
    let choose = || order.get(next.fetch_add(1, Ordering::Relaxed)).copied().filter(|_| !stop.load(Ordering::Relaxed));
    each_chosen(order.len(), jobs, &choose, work)
}

/// Does `work` for each number below `count` that `choose` gives, with so many threads, until it gives none. The results
/// stand in the order of the numbers; what was not chosen is missing.
pub(crate) fn each_chosen<T: Send>(
    count: usize,
    jobs: usize,
    choose: &(dyn Fn() -> Option<usize> + Sync),
    work: &(dyn Fn(usize) -> T + Sync),
) -> Vec<Option<T>> {
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let run = || {
        while let Some(index) = choose() {
            let result = work(index);
            if let Ok(mut slot) = results[index].lock() {
                *slot = Some(result);
            }
        }
    };
    together(jobs.min(count), &run);
    results.into_iter().map(|slot| slot.into_inner().ok().flatten()).collect()
}

/// All results, or the error of the first one that has an error of its own, and not only stopped because another one
/// had; `cancelled` is the error of those.
pub(crate) fn all<T, E>(
    results: Vec<Option<Result<T, E>>>,
    cancelled: fn() -> E,
    is_cancelled: fn(&E) -> bool,
) -> Result<Vec<T>, E> {
    let mut good = Vec::with_capacity(results.len());
    let mut error: Option<E> = None;
    for result in results {
        match result.unwrap_or_else(|| Err(cancelled())) {
            Ok(one) => good.push(one),
            Err(own) if error.as_ref().is_none_or(is_cancelled) => error = Some(own),
            Err(_) => {}
        }
    }
    error.map_or(Ok(good), Err)
}

/// Layers downloaded in parallel by default.
const MOST_WAITING: usize = 6;

/// How many threads do some work, of which so many parts come from elsewhere: as many as were asked for, else as many
/// as there are processors, and some more that wait for the network and leave the processors to the others.
pub(crate) fn jobs(asked: Option<NonZero<usize>>, remote: usize) -> NonZero<usize> {
    let processors = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    asked.unwrap_or_else(|| processors().saturating_add(remote.min(MOST_WAITING)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_stands_in_its_place() {
        for jobs in [1, 3, 20] {
            let results = each(&[3, 1, 0, 2], jobs, &AtomicBool::new(false), &|index| index * 10);
            assert_eq!(results, [0, 10, 20, 30].map(Some));
        }
        assert_eq!(each(&[], 4, &AtomicBool::new(false), &|index| index), []);
    }

    #[test]
    fn what_was_not_begun_is_missing_and_the_first_error_of_its_own_counts() {
        let stop = AtomicBool::new(false);
        let results = each(&[2, 1, 0], 1, &stop, &|index| {
            stop.store(index == 1, Ordering::Relaxed);
            if index == 1 { Err("broken") } else { Ok(index) }
        });
        assert_eq!(results, [None, Some(Err("broken")), Some(Ok(2))]);
        assert_eq!(all(results, || "cancelled", |error| *error == "cancelled"), Err("broken"));
        assert_eq!(all(vec![Some(Ok::<_, &str>(1)), Some(Ok(2))], || "cancelled", |_| false), Ok(vec![1, 2]));
    }
}
