//! The layers that are being worked on, so that the work can be cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::cancel::Cancel;

/// What somebody waits for. Clones share one list.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    cancels: HashMap<u64, Cancel>,
}

/// Work that somebody waits for. It is cancelled when this is dropped.
pub(super) struct Own {
    number: u64,
    pub(super) cancel: Cancel,
    running: Running,
}

impl Running {
    pub(super) fn begin(&self) -> Own {
        let mut list = self.list();
        let (number, cancel) = (list.next, Cancel::default());
        list.next += 1;
        list.cancels.insert(number, cancel.clone());
        Own { number, cancel, running: self.clone() }
    }

    pub(super) fn count(&self) -> usize {
        self.list().cancels.len()
    }

    /// Cancels the work on all of them.
    pub(super) fn cancel(&self) {
        self.list().cancels.values().for_each(Cancel::cancel);
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.running.list().cancels.remove(&self.number);
    }
}
