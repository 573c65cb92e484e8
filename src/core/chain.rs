//! Errors and their causes. Each room reports what it could not do, and keeps the error of the room below as the cause.
//!
//! An error's own text never repeats its cause, which is its [`source`](Error::source). Whoever shows an error shows
//! the whole chain: the command line does it for what it prints, [`Chain`] for reports that hold an error as text.

use std::error::Error;
use std::fmt;

/// Any error as a cause.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error and all its causes on one line, `a: b: c`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'e>(pub &'e (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What was tried, and why it failed, for places whose error type has room for one error only, like an
/// [`io::Error`](std::io::Error).
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Context {
    what: String,
    source: Cause,
}

impl Context {
    /// That `what` failed because of `cause`.
    pub fn new(what: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self { what: what.into(), source: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_shows_every_cause_once() {
        let deepest = std::io::Error::from(std::io::ErrorKind::NotFound);
        let middle = std::io::Error::other(Context::new("cannot read the list", deepest));
        let error = Context::new("cannot open the image", middle);
        assert_eq!(Chain(&error).to_string(), "cannot open the image: cannot read the list: entity not found");
    }
}
