//! Layers of snapshots: staged in their directories, and settled there on what lies below them.

use std::io;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use super::recent::{Known, Recent};
use super::{Snapshot, Store, StoreError, UPPER, document, remove_in};
use crate::core::cancel::Cancel;
use crate::unpack::{Base, Settled, SettledLayer, Underneath, record_name, settle_layer_on};

/// A layer that was read.
pub(super) const STAGED: &str = "staged";
/// The same, from when on it is not whole any more.
const SETTLING: &str = "settling";

impl Store {
    /// Settles the layer that was staged in a snapshot, on its parent and all below that; nothing, if there is none. The
    /// snapshot's turn must be held.
    pub(super) fn settle(
        &self,
        number: u64,
        below: &[Snapshot],
        cancel: &Cancel,
    ) -> Result<Option<Settled>, StoreError> {
        let directory = self.directory(number);
        let (staged, settling) = (directory.join(STAGED), directory.join(SETTLING));
        let record = directory.join(record_name());
        if !is_there(&staged) {
            return match is_there(&settling) && !is_there(&record) {
                true => Err(StoreError::Precondition(format!(
                    "{directory:?}: the layer was being finished when that was interrupted; unpack it again"
                ))),
                false => Ok(None),
            };
        }
        let io = |error| StoreError::io(format!("cannot finish {directory:?}"), error);
        let options = self.options(cancel);
        let known = below.first().and_then(|parent| self.recent().take_unpacked(parent.number));
        let underneath = if known.is_some() { Underneath::default() } else { self.underneath(below)? };
        std::fs::rename(&staged, &settling).map_err(io)?;
        let base = known.map_or_else(|| Base::read(&underneath, self.namespace, &options), Ok)?;
        let (settled, base) = settle_layer_on(&settling, base, &directory.join(UPPER), &options)?;
        // The layer is whole now.
        std::fs::rename(settling.join(record_name()), &record).map_err(io)?;
        document::sync(&directory, self.durability).map_err(io)?;
        // What is left goes with the snapshot, if not now.
        let _ = remove_in(&directory, SETTLING);
        // What was read from disk is not known so well.
        if underneath.lower.is_empty() {
            self.recent().keep(number, Known::Unpacked(base));
        }
        Ok(Some(settled))
    }

    /// What is in a snapshot is not what it was, or nothing any more.
    pub(super) fn forget(&self, number: u64) {
        self.recent().forget(number);
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies below, the topmost first: layers with records down to the first that others have made, which is read from
    /// disk with all below it.
    fn underneath(&self, below: &[Snapshot]) -> Result<Underneath, StoreError> {
        let directory = |snapshot: &Snapshot| self.directory(snapshot.number);
        let of_layer = |snapshot: &Snapshot| SettledLayer {
            directory: directory(snapshot).join(UPPER),
            record: directory(snapshot).join(record_name()),
        };
        let known = below.iter().take_while(|snapshot| is_there(&directory(snapshot).join(record_name()))).count();
        Ok(Underneath {
            lower: self.lower_directories(&below[known..])?,
            settled: below[..known].iter().rev().map(of_layer).collect(),
        })
    }

    /// Whether there is a record of what was unpacked into a snapshot.
    pub(super) fn has_record(&self, number: u64) -> bool {
        is_there(&self.directory(number).join(record_name()))
    }

    /// Removes that record, if there is one: the directory is read instead.
    pub(super) fn forget_record(&self, number: u64) -> io::Result<()> {
        self.forget(number);
        let directory = self.directory(number);
        // With it and no record the layer would seem to be unfinished.
        remove_in(&directory, SETTLING)?;
        match std::fs::remove_file(directory.join(record_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether nothing was unpacked into a snapshot, nor written. What was staged may be staged again.
    pub(super) fn is_untouched(&self, number: u64) -> bool {
        let directory = self.directory(number);
        let is_empty = std::fs::read_dir(directory.join(UPPER)).is_ok_and(|mut names| names.next().is_none());
        is_empty && !is_there(&directory.join(SETTLING)) && !is_there(&directory.join(record_name()))
    }
}

pub(super) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
