//! The tar format, without I/O: a reader from bytes to entries, and a writer from entries to bytes.
//!
//! Archives mean here what Go's `archive/tar` makes of them, the reader of every engine (rule T1): a reader that
//! differs is a way to smuggle files. [`Reader`] is fed bytes and answers with [`Event`]s; who reads the bytes from
//! where, and who writes the files, is not its business. [`Writer`] writes what
//! the reader reads. The headers' layout is the crate `tar`'s.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use entry::{Entry, EntryKind};
pub use reader::{ArchiveError, Event, Limits, Reader};
pub use sparse::Fragment;
pub use write::Writer;
