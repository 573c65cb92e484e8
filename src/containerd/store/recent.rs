//! What was settled last, replayed, so that the next layer on top costs what is in it, and not what lies below.

use std::collections::VecDeque;

use crate::core::limits::Limits;
use crate::metadata::Lowers;
use crate::unpack::Base;

/// More images than are pulled at the same time.
const MOST: usize = 16;
/// Bytes of all together, about.
const MOST_BYTES: u64 = 64 << 20;

/// The layers of a snapshot with all below it, as they are for whatever is put on top.
#[derive(Debug)]
pub(super) enum Known {
    /// For a layer that is unpacked.
    Unpacked(Base),
    /// For one that is kept as an EROFS image.
    Images(Lowers),
}

impl Known {
    fn memory(&self) -> u64 {
        match self {
            Self::Unpacked(base) => base.memory(),
            Self::Images(lowers) => lowers.memory(),
        }
    }
}

/// What is known of some snapshots. What is taken out is extended and comes back for the snapshot above.
#[derive(Debug)]
pub(super) struct Recent {
    /// By the number of the topmost snapshot, the latest last.
    kept: VecDeque<(u64, Known)>,
    most_bytes: u64,
}

impl Recent {
    /// Of no more memory than these permit for one layer.
    pub(super) fn within(limits: &Limits) -> Self {
        Self { kept: VecDeque::new(), most_bytes: MOST_BYTES.min(limits.memory_of_records()) }
    }

    /// What is known of this snapshot for a layer that is unpacked, which is not known any more then.
    pub(super) fn take_unpacked(&mut self, number: u64) -> Option<Base> {
        match self.take(number, |known| matches!(known, Known::Unpacked(_)))? {
            Known::Unpacked(base) => Some(base),
            Known::Images(_) => None,
        }
    }

    /// The same for a layer that is kept as an EROFS image.
    pub(super) fn take_images(&mut self, number: u64) -> Option<Lowers> {
        match self.take(number, |known| matches!(known, Known::Images(_)))? {
            Known::Images(lowers) => Some(lowers),
            Known::Unpacked(_) => None,
        }
    }

    fn take(&mut self, number: u64, is_meant: impl Fn(&Known) -> bool) -> Option<Known> {
        let place = self.kept.iter().position(|(other, known)| *other == number && is_meant(known))?;
        self.kept.remove(place).map(|(_, known)| known)
    }

    /// Forgets all that is known of a snapshot.
    pub(super) fn forget(&mut self, number: u64) {
        self.kept.retain(|&(other, _)| other != number);
    }

    /// In the place of all that was known of the snapshot.
    pub(super) fn keep(&mut self, number: u64, known: Known) {
        self.forget(number);
        self.kept.push_back((number, known));
        let bytes = |kept: &VecDeque<(u64, Known)>| kept.iter().map(|(_, known)| known.memory()).sum::<u64>();
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
        let unpacked = || Known::Unpacked(Base::default());
        let mut recent = Recent::within(&Limits::default());
        (0..=MOST as u64).for_each(|number| recent.keep(number, unpacked()));
        assert!(recent.take_unpacked(0).is_none());
        assert!(recent.take_images(1).is_none());
        assert!(recent.take_unpacked(1).is_some());
        assert!(recent.take_unpacked(1).is_none());
        recent.keep(100, unpacked());
        assert!(recent.take_unpacked(100).is_some() && recent.take_unpacked(2).is_some());
    }

    #[test]
    fn what_was_forgotten_is_not_known() {
        let mut recent = Recent::within(&Limits::default());
        recent.keep(1, Known::Images(Lowers::default()));
        recent.keep(2, Known::Images(Lowers::default()));
        recent.forget(1);
        assert!(recent.take_images(1).is_none());
        assert!(recent.take_images(2).is_some());
    }
}
