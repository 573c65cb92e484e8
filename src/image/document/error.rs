//! The error of a document that cannot be read.

use std::fmt;

/// A text that is not JSON, or a field of another type than it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// The field, like `config.Env[0]`; empty where it is the whole document.
    path: String,
    problem: String,
}

impl DocumentError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// The same, of a field that it was found in.
    pub(super) fn in_field(self, name: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{name}{separator}{}", self.path), ..self }
    }

    /// The same, of an element of a list that it was found in.
    pub(super) fn in_element(self, index: usize) -> Self {
        self.in_field(&format!("[{index}]"))
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => formatter.write_str(&self.problem),
            path => write!(formatter, "{path}: {}", self.problem),
        }
    }
}

impl std::error::Error for DocumentError {}

impl serde::de::Error for DocumentError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

impl From<serde_json::Error> for DocumentError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}
