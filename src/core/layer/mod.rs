//! What a layer says: names, attributes, changes, and the record of them.
//!
//! No I/O but in [`read_layer`], which takes a layer's bytes from a reader and hands the contents of files on to a
//! [`Sink`]. The record that it returns is all that the stack needs.

mod acl;
mod change;
mod from_entry;
mod read;
mod to_entry;
mod xattr_name;

pub(crate) use acl::shift_ids as shift_acl;
pub use change::MarkError;
pub use from_entry::{AttributeError, Unkept};
pub use read::{Discard, EntryProblem, Failure, LayerError, Place, ReadOptions, Sink, read_layer};
