//! What the user should know though nothing failed, as soon as it is known.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Takes notes while work is done. Clones share one reader; by default there is none, and notes go nowhere.
#[derive(Clone, Default)]
pub struct Notes(Option<Arc<Reader>>);

struct Reader {
    tell: Box<dyn Fn(&str) + Send + Sync>,
    told: Mutex<HashSet<String>>,
}

impl Notes {
    /// Notes are told to this function, each text once.
    pub fn to(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Reader { tell: Box::new(tell), told: Mutex::default() })))
    }

    /// Takes a note: a sentence without a full stop.
    pub fn add(&self, note: impl Into<String>) {
        let Some(reader) = &self.0 else { return };
        let note = note.into();
        if reader.told.lock().is_ok_and(|mut told| told.insert(note.clone())) {
            (reader.tell)(&note);
        }
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Notes").field(&self.0.is_some()).finish()
    }
}
