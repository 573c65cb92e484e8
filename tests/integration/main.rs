//! What needs neither privilege nor a program of others: the documents, and the program as its users meet it.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod cli;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod completion;
mod documents;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod gates;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod image_documents;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
#[path = "../common/images.rs"]
mod images;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod inside;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
#[path = "../common/place.rs"]
#[allow(dead_code, unreachable_pub, reason = "this program uses its own part")]
mod place;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod sources;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod take_out;
#[cfg(all(feature = "cli", feature = "xz", feature = "bzip2"))]
mod words;
