//! Which entries of a difference are in which directory, for whoever writes directory by directory.

use super::Difference;

/// The entries of a difference by the directory that they are in.
#[derive(Debug)]
pub(crate) struct Children {
    /// All entries but the root, those of one directory together and in the order of their names.
    entries: Vec<u32>,
    /// Where in `entries` those of an entry begin; they end where the next one's begin.
    first: Vec<u32>,
}

impl Children {
    pub(crate) fn of(difference: &Difference) -> Self {
        let entries = difference.entries();
        let mut first = vec![0u32; entries.len() + 1];
        for entry in entries.iter().skip(1) {
            first[entry.parent() + 1] += 1;
        }
        for index in 1..first.len() {
            first[index] += first[index - 1];
        }
        let mut next = first.clone();
        let mut sorted = vec![0; entries.len().saturating_sub(1)];
        for (index, entry) in entries.iter().enumerate().skip(1) {
            let place = &mut next[entry.parent()];
            sorted[*place as usize] = index as u32;
            *place += 1;
        }
        Self { entries: sorted, first }
    }

    /// Those in a directory, in the order of their names; none in other entries.
    pub(crate) fn of_entry(&self, entry: usize) -> &[u32] {
        match self.first.get(entry..entry + 2) {
            Some(&[from, to]) => &self.entries[from as usize..to as usize],
            _ => &[],
        }
    }
}
