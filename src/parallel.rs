//! An ordered parallel map: runs a function on several items at the same time, keeps the order of the results, and
//! stops at the first error.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Does `work` for each number of `order`, which has each number below its length once, with so many threads. The
/// results stand in the order of the numbers; what was not begun when `stop` was set is missing.
pub(crate) fn each<T: Send>(
    order: &[usize],
    jobs: usize,
    stop: &AtomicBool,
    work: &(dyn Fn(usize) -> T + Sync),
) -> Vec<Option<T>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<T>>> = order.iter().map(|_| Mutex::new(None)).collect();
    let run = || {
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let result = work(index);
            if let Ok(mut slot) = results[index].lock() {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(order.len()) {
            scope.spawn(run);
        }
        run();
    });
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
