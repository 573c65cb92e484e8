//! What was settled last, replayed, so that the next layer on top costs what is in it, and not what lies below.

use std::collections::VecDeque;

use crate::core::limits::Limits;
use crate::unpack::Base;

/// More images than are pulled at the same time.
const MOST: usize = 16;
/// Bytes of all together, about.
const MOST_BYTES: u64 = 64 << 20;

/// The layers of snapshots with all below them, as they are for whatever is put on top. What is taken out is extended and comes
/// back for the snapshot above.
#[derive(Debug)]
pub(super) struct Recent {
    /// By the number of the topmost snapshot, the latest last.
    kept: VecDeque<(u64, Base)>,
    most_bytes: u64,
}

impl Recent {
    /// Of no more memory than these permit for one layer.
    pub(super) fn within(limits: &Limits) -> Self {
        Self { kept: VecDeque::new(), most_bytes: MOST_BYTES.min(limits.memory_of_records()) }
    }

    /// What is known of this snapshot, which is not known any more then.
    pub(super) fn take(&mut self, number: u64) -> Option<Base> {
        let place = self.kept.iter().position(|&(other, _)| other == number)?;
        self.kept.remove(place).map(|(_, base)| base)
    }

    pub(super) fn keep(&mut self, number: u64, base: Base) {
        self.kept.push_back((number, base));
        let bytes = |kept: &VecDeque<(u64, Base)>| kept.iter().map(|(_, base)| base.memory()).sum::<u64>();
        while self.kept.len() > MOST || bytes(&self.kept) > self.most_bytes {
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_goes_first() {
        let mut recent = Recent::within(&Limits::default());
        (0..=MOST as u64).for_each(|number| recent.keep(number, Base::default()));
        assert!(recent.take(0).is_none());
        let base = recent.take(1).unwrap();
        assert!(recent.take(1).is_none());
        recent.keep(100, base);
        assert!(recent.take(100).is_some() && recent.take(2).is_some());
    }
}
