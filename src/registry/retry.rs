//! When to ask again: each time twice as long after the last, unless the registry says when (Retry-After, RFC 9110, 10.2.3).

use std::time::{Duration, Instant, SystemTime};

use super::RegistryError;
use crate::options::Cancel;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Who wants us to wait longer is told to the user instead.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// How soon a signal is noticed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Tries that are left.
#[derive(Debug)]
pub(super) struct Attempts {
    retries: u32,
    left: u32,
    wait: Duration,
    cancel: Cancel,
}

impl Attempts {
    pub(super) fn new(retries: u32, cancel: &Cancel) -> Self {
        Self { retries, left: retries, wait: FIRST_WAIT, cancel: cancel.clone() }
    }

    /// Something was achieved: what fails from now on fails for the first time.
    pub(super) fn start_over(&mut self) {
        (self.left, self.wait) = (self.retries, FIRST_WAIT);
    }

    /// Waits until it is time to ask again.
    ///
    /// # Errors
    /// The same error, if asking again is of no use, or was tried often enough.
    pub(super) fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        if self.cancel.is_cancelled() {
            return Err(RegistryError::Cancelled);
        }
        let Some(asked) = error.is_passing() else { return Err(error) };
        let wait = asked.unwrap_or(self.wait);
        if self.left == 0 || wait > LONGEST_ASKED {
            return Err(error);
        }
        self.left -= 1;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        let until = Instant::now() + wait;
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            if self.cancel.is_cancelled() {
                return Err(RegistryError::Cancelled);
            }
            std::thread::sleep(rest.min(LOOK_UP));
        }
        Ok(())
    }

    /// Asks until there is an answer that is final.
    pub(super) fn run<T>(mut self, mut ask: impl FnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        loop {
            match ask() {
                Err(error) => self.again(error)?,
                answer => return answer,
            }
        }
    }
}

/// What a Retry-After says: seconds, or a date.
pub(super) fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> RegistryError {
        RegistryError::Broken { what: "x".into(), registry: "r".into(), problem: "p".into() }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let mut asked = 0;
        let answer = Attempts::new(2, &Cancel::default()).run(|| {
            asked += 1;
            if asked < 3 { Err(broken()) } else { Ok(asked) }
        });
        assert_eq!(answer.unwrap(), 3);
        let mut asked = 0;
        let answer: Result<(), _> = Attempts::new(2, &Cancel::default()).run(|| {
            asked += 1;
            Err(RegistryError::NotTls { registry: "r".into(), end: Default::default() })
        });
        assert!(matches!(answer, Err(RegistryError::NotTls { .. })));
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(matches!(Attempts::new(2, &cancel).again(broken()), Err(RegistryError::Cancelled)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
