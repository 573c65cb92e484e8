//! Where inodes lie: slots of 32 bytes, counted from the beginning of the metadata.
//!
//! An inode with its link target, directory block or end of a file behind it must not cross the border of a block. What that leaves
//! over at the end of a block is given to later inodes, the best fit first, so that hardly anything is lost.

use super::inode::SLOT;

/// Gives out slots.
#[derive(Debug)]
pub(super) struct Slots {
    per_block: u64,
    /// What was never given out.
    next: u64,
    /// Beginnings of what was left over, by how many slots it has.
    gaps: Vec<Vec<u32>>,
    /// Which of them there are.
    known: u128,
}

impl Slots {
    /// From this slot on.
    pub(super) fn new(block: u64, first: u64) -> Self {
        let per_block = block / SLOT;
        Self { per_block, next: first, gaps: vec![Vec::new(); per_block as usize], known: 0 }
    }

    /// So many bytes: inside one block where they fit into one.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let count = bytes.div_ceil(SLOT);
        if count > self.per_block {
            let start = self.next;
            self.next += count;
            return start;
        }
        let fitting = if count < self.per_block { self.known >> count << count } else { 0 };
        if fitting != 0 {
            let size = fitting.trailing_zeros() as usize;
            if let Some(start) = self.gaps[size].pop() {
                if self.gaps[size].is_empty() {
                    self.known &= !(1 << size);
                }
                self.leave(u64::from(start) + count, size as u64 - count);
                return start.into();
            }
        }
        let room = self.per_block - self.next % self.per_block;
        if room < count {
            self.leave(self.next, room);
            self.next += room;
        }
        let start = self.next;
        self.next += count;
        start
    }

    fn leave(&mut self, start: u64, count: u64) {
        if count > 0 {
            self.gaps[count as usize].push(start as u32);
            self.known |= 1 << count;
        }
    }

    /// Behind all that was given out.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_fits_into_a_block_crosses_a_border_and_nothing_overlaps() {
        let mut random = fastrand::Rng::with_seed(7);
        for block in [512, 4096] {
            let mut slots = Slots::new(block, 4);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for _ in 0..5000 {
                let bytes = random.u64(1..block + block / 4);
                let start = slots.take(bytes);
                if bytes <= block {
                    assert_eq!(start * SLOT / block, (start * SLOT + bytes - 1) / block, "{bytes} at {start}");
                }
                taken.push((start, start + bytes.div_ceil(SLOT)));
            }
            taken.sort_unstable();
            assert!(taken[0].0 >= 4);
            assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            assert!(taken.iter().all(|&(_, end)| end <= slots.end()));
        }
    }

    #[test]
    fn what_is_left_over_is_used() {
        let mut slots = Slots::new(512, 0);
        assert_eq!(slots.take(400), 0); // 13 of 16 slots
        assert_eq!(slots.take(400), 16);
        assert_eq!(slots.take(64), 13);
        assert_eq!(slots.take(96), 29);
        assert_eq!(slots.take(32), 15);
        assert_eq!(slots.take(512), 32);
        assert_eq!(slots.end(), 48);
    }
}
