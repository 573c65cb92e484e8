//! Commits of which containerd may not have heard.
//!
//! containerd has names of its own for snapshots. Around a Commit it changes them in a transaction, and undoes that when there
//! is no answer: because it was killed, or we were, or its caller has given up. Then it goes on to ask for what was committed
//! by the key of the active snapshot that it was, and so does BuildKit, which would ask in vain until all of that is pruned.
//! Nobody can tell whether an answer was heard. So a committed snapshot has two names, its own and that key, until it shows
//! which of them containerd has:
//!
//! - Put on it is what comes next, or the key is removed: the commit was heard of. The key is forgotten.
//! - Its mounts or its labels are asked for by the key, or its name is removed: it was not. The snapshot is active again.
//! - It is committed again by the key: there is nothing left to do but to give it the name, which most often is another one, since
//!   containerd numbers its names.
//!
//! Lists have both names, so that containerd's garbage collection removes the one that it does not know: if it knows neither, it
//! removes both, and nothing is left. What is told by Stat changes nothing: it is asked for at any time, also between the list
//! and the removals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::SystemTime;

use super::{Committed, Document, Snapshot, State, Store, StoreError};

impl State {
    /// Looks for commits that may not have been heard of among all that there are.
    pub(super) fn find_unheard(&mut self) {
        let parents: BTreeSet<&str> = self.snapshots.values().map(|other| other.document.parent.as_str()).collect();
        let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (name, snapshot) in self.snapshots.iter().filter(|(name, _)| !parents.contains(name.as_str())) {
            if let Some(before) = &snapshot.document.before {
                // A key that was taken once more says that containerd had done with it.
                let nobody = |name: &mut Option<String>| *name = None;
                found.entry(before.name.clone()).and_modify(nobody).or_insert_with(|| Some(name.clone()));
            }
        }
        found.retain(|key, _| !self.snapshots.contains_key(key));
        self.unheard = found.into_iter().filter_map(|(key, name)| Some((key, name?))).collect();
        let unheard: BTreeSet<&String> = self.unheard.values().collect();
        for (name, snapshot) in &mut self.snapshots {
            if !unheard.contains(name) {
                snapshot.document.before = None;
            }
        }
    }

    /// The name of what is asked for by this name or key.
    pub(super) fn resolve<'a>(&'a self, key: &'a str) -> &'a str {
        self.unheard.get(key).map_or(key, String::as_str)
    }

    /// What is said of a snapshot to those who ask by this name or key.
    pub(super) fn document(&self, key: &str) -> Result<&Document, StoreError> {
        let document = &self.get(self.resolve(key))?.document;
        let before = document.before.as_deref().filter(|before| before.name == key);
        Ok(before.unwrap_or(document))
    }

    /// containerd knows this name, if there is such a snapshot.
    pub(super) fn heard(&mut self, name: &str) {
        if let Some(before) = self.snapshots.get_mut(name).and_then(|snapshot| snapshot.document.before.take()) {
            self.unheard.remove(&before.name);
        }
    }

    /// containerd has done with this key.
    pub(super) fn done_with(&mut self, key: &str) {
        if let Some(name) = self.unheard.get(key).cloned() {
            self.heard(&name);
        }
    }

    /// Gives a snapshot another document, and the name that is in it.
    fn rename(&mut self, name: &str, document: Document) {
        if let Some(snapshot) = self.snapshots.remove(name) {
            self.unheard.retain(|_, other| other != name);
            if let Some(before) = &document.before {
                self.unheard.insert(before.name.clone(), document.name.clone());
            }
            self.snapshots.insert(document.name.clone(), Snapshot { document, ..snapshot });
        }
    }
}

impl Store {
    /// All names by which containerd may ask, with what it is told then.
    pub(crate) fn list_for_containerd(&self) -> Vec<Document> {
        let state = self.state();
        let ready = state.snapshots.values().filter(|snapshot| snapshot.is_ready).map(|snapshot| &snapshot.document);
        let both = ready.flat_map(|document| [Some(document), document.before.as_deref()]);
        both.flatten().cloned().collect()
    }

    /// Makes a snapshot active again, if it is asked for by the key that it was committed from.
    pub(super) fn reopen(&self, key: &str) -> Result<(), StoreError> {
        if !self.state().unheard.contains_key(key) {
            return Ok(());
        }
        let turn = self.turn(key)?;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        match state.unheard.get(key).cloned() {
            Some(name) => self.undo(&mut state, &name).map(drop),
            // Another call was quicker.
            None => Ok(()),
        }
    }

    /// Commits a snapshot again that was committed from this key. Its turn must be held.
    pub(super) fn commit_again(
        &self,
        name: &str,
        key: &str,
        parent: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Option<Committed>, StoreError> {
        let mut state = self.state();
        let Some(was) = state.unheard.get(key).cloned() else { return Ok(None) };
        if was != name {
            state.check_free(name)?;
        }
        let Snapshot { number, document, .. } = state.get(&was)?.clone();
        document.check_parent(key, parent)?;
        let usage = document.usage;
        if was != name || document.labels != *labels {
            let (name, labels) = (name.to_owned(), labels.clone());
            self.rewrite(&mut state, &was, Document { name, labels, updated: SystemTime::now(), ..document })?;
        }
        Ok(Some(Committed {
            usage,
            is_layer: self.has_record(number) || self.has_contents(number),
            not_kept: Vec::new(),
        }))
    }

    /// Takes one of its two names from a snapshot, if it has two. Its turn must be held.
    pub(super) fn remove_name(&self, key: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let Some(name) = state.unheard.get(key).cloned() else { return self.undo(&mut state, key) };
        let document = Document { before: None, ..state.get(&name)?.document.clone() };
        self.rewrite(&mut state, &name, document)?;
        Ok(true)
    }

    /// Makes the snapshot of this name active again, if it may.
    fn undo(&self, state: &mut State, name: &str) -> Result<bool, StoreError> {
        let Some(before) = state.get(name)?.document.before.clone() else { return Ok(false) };
        self.rewrite(state, name, *before)?;
        Ok(true)
    }

    /// Under the lock: nobody sees a snapshot without a name, or puts another on what is renamed.
    fn rewrite(&self, state: &mut State, name: &str, document: Document) -> Result<(), StoreError> {
        let directory = self.directory(state.get(name)?.number);
        document
            .write(&directory, self.durability)
            .map_err(|error| StoreError::io(format!("cannot write {directory:?}"), error))?;
        state.rename(name, document);
        Ok(())
    }
}
