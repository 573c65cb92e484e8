//! A stack that grows: for who has the layers one after the other, and needs what each holds before the next is there.

use super::{Reading, Stack, StackError};
use crate::core::record::Record;

/// Records, of which those that were replayed need not be replayed again: a layer on top costs what is in it, whatever lies
/// below.
#[derive(Debug, Default)]
pub(crate) struct GrowingStack {
    records: Vec<Record>,
    /// What was made of the first of them, without the records themselves.
    replayed: Option<Stack<'static>>,
}

impl GrowingStack {
    /// How many layers there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Puts a layer on top, to be replayed when that is asked for.
    pub(crate) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Replays the layers that have not been, bottom first, and shows the whole stack. It is to be read as it was before.
    ///
    /// # Errors
    /// The first entry that cannot be carried out.
    pub(crate) fn replay<T>(
        &mut self,
        reading: Reading,
        show: impl for<'r> FnOnce(&Stack<'r>, &'r [Record]) -> T,
    ) -> Result<T, StackError> {
        let mut stack = match self.replayed.take() {
            Some(replayed) => replayed.with_records(&self.records, reading),
            None => Stack::empty(&self.records, reading),
        };
        for layer in stack.layers.len()..self.records.len() {
            stack.apply(layer)?;
        }
        let shown = show(&stack, &self.records);
        self.replayed = Some(stack.without_records());
        Ok(shown)
    }
}

impl Stack<'static> {
    /// Goes on with these records, of which the first are those that were replayed.
    fn with_records(self, records: &[Record], reading: Reading) -> Stack<'_> {
        Stack { view: self.view.with_records(records, &reading), layers: self.layers, reading }
    }
}

impl Stack<'_> {
    /// Keeps what was replayed until there are more records.
    fn without_records(self) -> Stack<'static> {
        Stack { view: self.view.without_records(), layers: self.layers, reading: self.reading }
    }
}
