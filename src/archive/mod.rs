//! The tar format: bytes in, entries out, and no I/O in between.
//!
//! Archives mean here what Go's `archive/tar` makes of them, the reader of every engine (rule T1): a reader that
//! differs is a way to smuggle files. [`Reader`] is fed bytes and answers with [`Event`]s; who reads the bytes from
//! where, and who writes the files, is not its business. The headers' layout is the crate `tar`'s.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryKind};
pub use reader::{ArchiveError, Event, Limits, Reader};
