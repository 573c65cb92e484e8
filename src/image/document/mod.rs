//! The documents of an image: its configuration, manifests, indexes and descriptors, and Docker's `manifest.json`
//! (rules D1 to D4).
//!
//! Every engine reads them with Go's encoding/json, so they mean what that makes of them, and a reader that is stricter
//! misses what the engines see: `user` in a configuration that every engine obeys. [`read`] reads all of them in that
//! way. [`Object`] edits one: what it is not asked to change stays as it was written, byte for byte, known or not.

mod config;
mod descriptor;
mod edit;
mod error;
mod go;
mod manifest;
mod run;
mod saved;
mod text;

use serde::de::DeserializeOwned;

pub use config::{Configuration, History, RootFs, RunConfig};
pub(crate) use descriptor::Descriptor;
pub(crate) use edit::Object;
pub use error::DocumentError;
pub(crate) use manifest::{Document, LayoutMarker};
pub use run::NulError;
pub(crate) use run::quoted;
pub(crate) use saved::SavedImage;
pub(crate) use text::text;

/// Reads a document as Go's encoding/json does (rule D1).
///
/// # Errors
/// A text that is not JSON, or a field of another type than it must have; the message says which.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let marks: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    if marks.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(DocumentError::new(
            "it begins with a byte order mark; JSON is UTF-8 without one: convert the file",
        ));
    }
    go::read(&text(bytes))
}
