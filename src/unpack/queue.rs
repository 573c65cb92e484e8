//! The layers that are still to be read, and which of them is next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::cancel::Cancel;

/// Layers that nobody has begun to read, by their places in the list of layers to read.
#[derive(Debug)]
pub(crate) struct Queue<'a> {
    left: Mutex<VecDeque<usize>>,
    stop: &'a AtomicBool,
    cancel: &'a Cancel,
}

impl<'a> Queue<'a> {
    /// In this order, until either says stop.
    pub(crate) fn new(order: Vec<usize>, stop: &'a AtomicBool, cancel: &'a Cancel) -> Self {
        Self { left: Mutex::new(order.into()), stop, cancel }
    }

    /// The next one. There is none where nothing is left, and none once the work is stopped.
    pub(crate) fn first(&self) -> Option<usize> {
        self.left().pop_front().filter(|_| !self.is_stopped())
    }

    /// That very one, if it is left.
    pub(crate) fn take(&self, wanted: usize) -> Option<usize> {
        let mut left = self.left();
        let place = left.iter().position(|&layer| layer == wanted)?;
        left.remove(place)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says stop when it is dropped: whoever waits for work that failed or panicked waits no longer.
#[derive(Debug)]
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
