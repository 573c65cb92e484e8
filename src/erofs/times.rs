//! The time that most inodes have: those that have it need not state it.

use std::cmp::Reverse;

use hashbrown::HashMap;

use crate::core::record::Attributes;

/// How many different times are counted at once, so that memory does not grow with them.
const MOST: usize = 1 << 12;

/// Seconds since the epoch, and nanoseconds.
pub(super) type Time = (i64, u32);

pub(super) fn time_of(attributes: &Attributes) -> Time {
    (attributes.mtime.seconds, attributes.mtime.nanoseconds)
}

/// Counts times. Where no time is that of one inode in [`MOST`], hardly any could leave it out, and it may be another one.
#[derive(Debug, Default)]
pub(super) struct Times {
    counts: HashMap<Time, u32>,
    /// Whether counts were dropped on the way.
    is_estimate: bool,
}

impl Times {
    pub(super) fn count(&mut self, time: Time) {
        if time.0 < 0 {
            return;
        }
        // After Misra and Gries: whenever the counts are full, one is taken off each, and so only the rare ones are forgotten.
        if self.counts.len() < MOST || self.counts.contains_key(&time) {
            *self.counts.entry(time).or_default() += 1;
        } else {
            self.is_estimate = true;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The one that was counted most often. `again`: all of them once more, since not all could be counted at once.
    pub(super) fn most<I: Iterator<Item = Time>>(mut self, again: impl FnOnce() -> I) -> Time {
        if self.is_estimate {
            self.counts.values_mut().for_each(|count| *count = 0);
            for time in again() {
                if let Some(count) = self.counts.get_mut(&time) {
                    *count += 1;
                }
            }
        }
        self.counts.into_iter().max_by_key(|&(time, count)| (count, Reverse(time))).map_or((0, 0), |(time, _)| time)
    }
}
