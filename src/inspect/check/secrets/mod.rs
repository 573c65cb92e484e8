//! Finds secrets: in files by their names and contents, and in the texts of the configuration.
//!
//! Only what an issuer documents is looked for, and each kind names the document. Where the format has a checksum it is
//! verified. No value leaves this module: of a token its first four characters and its length, of a password nothing.

mod kinds;
mod names;
mod scan;
mod tokens;
mod words;

use super::Severity;

pub use kinds::SecretKind;
pub(super) use names::by_name;
pub(super) use scan::{Scanned, Scanner};
pub(super) use words::{search, search_named};

/// A secret that was found in some text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: SecretKind,
    pub(super) severity: Severity,
    /// The line of the text, from 1.
    pub(super) line: u64,
    /// As much of the value as may be shown, or why it counts for less.
    pub(super) shown: String,
    /// Tells values apart without keeping them.
    pub(super) value: [u8; 32],
}

impl Found {
    /// "holds a GitHub token (ghp_…, 40 characters)", without "holds".
    pub(super) fn what(&self) -> String {
        format!("{} ({})", self.kind.what(), self.shown)
    }
}

/// As much of a token as helps to find it again, and no more.
fn shown(value: &[u8]) -> String {
    let start: String = value.iter().take(4).map(|&byte| char::from(byte)).collect();
    format!("{start}…, {} characters", value.len())
}
