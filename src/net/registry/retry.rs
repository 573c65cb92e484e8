//! Decides when a request is retried: each wait is twice as long as the one before, or as long as the registry asks for
//! (Retry-After, RFC 9110, 10.2.3).

use std::time::{Duration, Instant, SystemTime};

use super::RegistryError;
use crate::core::cancel::Cancel;

const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The first wait after 429 Too Many Requests.
const FIRST_WAIT_OF_MANY: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A longer wait is not obeyed but reported to the user.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// So long one request is waited for in all: between its tries, and for answers that did not come.
const LONGEST_IN_ALL: Duration = Duration::from_secs(15 * 60);
/// How soon a signal is noticed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Tries that are left.
#[derive(Debug)]
pub(super) struct Attempts {
    retries: u32,
    left: u32,
    wait: Duration,
    waited: Duration,
    cancel: Cancel,
}

impl Attempts {
    pub(super) fn new(retries: u32, cancel: &Cancel) -> Self {
        Self { retries, left: retries, wait: FIRST_WAIT, waited: Duration::ZERO, cancel: cancel.clone() }
    }

    /// Something was achieved: what fails from now on fails for the first time.
    pub(super) fn start_over(&mut self) {
        (self.left, self.wait, self.waited) = (self.retries, FIRST_WAIT, Duration::ZERO);
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
        let Some(wait) = self.wait_after(&error, asked) else { return Err(error) };
        let until = Instant::now() + wait;
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            if self.cancel.is_cancelled() {
                return Err(RegistryError::Cancelled);
            }
            std::thread::sleep(rest.min(LOOK_UP));
        }
        Ok(())
    }

    /// How long to wait before the next try, if there is to be one.
    fn wait_after(&mut self, error: &RegistryError, asked: Option<Duration>) -> Option<Duration> {
        match error {
            RegistryError::Refused { status, .. } if status.starts_with("429") => {
                self.wait = self.wait.max(FIRST_WAIT_OF_MANY);
            }
            RegistryError::NoAnswer { waited, .. } => self.waited += *waited,
            _ => {}
        }
        // A Retry-After of 0 is treated like none: the server is busy all the same.
        let wait = asked.unwrap_or_default().max(self.wait);
        self.waited += wait;
        if self.left == 0 || wait > LONGEST_ASKED || self.waited > LONGEST_IN_ALL {
            return None;
        }
        self.left -= 1;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Some(wait)
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
        RegistryError::Broken { what: "x".into(), registry: "r".into(), error: "p".into() }
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

    /// How long is waited after one such error, without waiting.
    fn after(attempts: &mut Attempts, status: &str, retry_after: Option<u64>) -> Option<Duration> {
        let error = RegistryError::Refused {
            what: "x".into(),
            registry: "r".into(),
            status: status.into(),
            message: String::new(),
            passing: true,
            retry_after: retry_after.map(Duration::from_secs),
        };
        attempts.wait_after(&error, retry_after.map(Duration::from_secs))
    }

    #[test]
    fn retry_after_never_shortens_the_wait() {
        let mut attempts = Attempts::new(9, &Cancel::default());
        let seconds = Duration::from_secs;
        assert_eq!(after(&mut attempts, "503 Service Unavailable", Some(0)), Some(FIRST_WAIT));
        assert_eq!(after(&mut attempts, "503 Service Unavailable", None), Some(FIRST_WAIT * 2));
        assert_eq!(after(&mut attempts, "503 Service Unavailable", Some(7)), Some(seconds(7)));
        assert_eq!(after(&mut attempts, "429 Too Many Requests", Some(0)), Some(seconds(2)));
        assert_eq!(after(&mut attempts, "429 Too Many Requests", Some(1)), Some(seconds(4)));
        assert_eq!(after(&mut attempts, "429 Too Many Requests", Some(121)), None);
    }

    #[test]
    fn one_request_is_not_waited_for_without_end() {
        let mut attempts = Attempts::new(100, &Cancel::default());
        let waits = std::iter::from_fn(|| after(&mut attempts, "429 Too Many Requests", Some(120)));
        assert_eq!(waits.count(), 7);
        let none = |waited| RegistryError::NoAnswer { what: "x".into(), registry: "r".into(), waited };
        let mut attempts = Attempts::new(100, &Cancel::default());
        assert!(attempts.wait_after(&none(Duration::from_secs(600)), None).is_some());
        assert!(attempts.wait_after(&none(Duration::from_secs(600)), None).is_none());
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
