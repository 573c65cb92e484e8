//! Notes: what a user should know at once although nothing failed.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type Hear = dyn Fn(&str) + Send + Sync;

/// Hears notes, each once. The default hears none. Clones share one ear.
#[derive(Clone, Default)]
pub struct Notes(Option<Arc<Ear>>);

struct Ear {
    hear: Box<Hear>,
    heard: Mutex<HashSet<String>>,
}

impl Notes {
    /// Notes that go to this function. It is called from several threads.
    pub fn to(hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Ear { hear: Box::new(hear), heard: Mutex::default() })))
    }

    /// Tells a note, unless it was told before.
    pub(crate) fn tell(&self, note: impl Into<String>) {
        let Some(ear) = &self.0 else { return };
        let note = note.into();
        if ear.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(note.clone()) {
            (ear.hear)(&note);
        }
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Notes").field(&self.0.is_some()).finish()
    }
}
