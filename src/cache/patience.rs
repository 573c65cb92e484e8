//! How long others are waited for of whom nothing is seen.

use std::time::{Duration, Instant};

/// What passes between two looks counts no more than this. A machine that stood still for long, or was busy with others, says nothing of those
/// who are waited for: they stood still with it.
const MOST: Duration = Duration::from_secs(2);

/// The time in which nothing was seen to change.
#[derive(Debug)]
pub(super) struct Patience<T> {
    seen: T,
    looked: Instant,
    waited: Duration,
}

impl<T: PartialEq> Patience<T> {
    /// Begins with what is seen now.
    pub(super) fn begin(seen: T, now: Instant) -> Self {
        Self { seen, looked: now, waited: Duration::ZERO }
    }

    /// What is seen now. Returns for how long that was so.
    pub(super) fn look(&mut self, seen: T, now: Instant) -> Duration {
        if self.seen == seen {
            self.waited += now.saturating_duration_since(self.looked).min(MOST);
        } else {
            (self.seen, self.waited) = (seen, Duration::ZERO);
        }
        self.looked = now;
        self.waited
    }

    /// For how long it was so when it was last looked at.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// When it was last looked at.
    pub(super) fn looked(&self) -> Instant {
        self.looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_in_which_it_was_looked_at_counts() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let mut patience = Patience::begin(0, now);
        for count in 1..10 {
            now += second;
            assert_eq!(patience.look(0, now), count * second);
        }
        // All stood still for an hour, and whoever wakes up first has not waited for an hour.
        now += 3600 * second;
        assert_eq!(patience.look(0, now), 9 * second + MOST);
        now += second;
        assert_eq!(patience.look(1, now), Duration::ZERO);
        now += second;
        assert_eq!((patience.look(1, now), patience.waited(), patience.looked()), (second, second, now));
    }
}
