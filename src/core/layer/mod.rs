//! Reads the archive of a layer into a record of its changes, and writes such archives.
//!
//! No I/O of its own: [`read_layer`] takes a layer's bytes from a reader and hands the contents of files on to a
//! [`Sink`]. The record that it returns is all that the stack needs. [`LayerWriter`] is the way back.

pub(crate) mod acl;
mod capability;
mod change;
mod from_entry;
mod kept_xattr;
mod read;
mod to_entry;
mod write;
mod xattr_name;

pub(crate) use acl::shift_ids as shift_acl;
pub(crate) use capability::{CAPABILITY, shift_root as shift_capability};
pub use change::WhiteoutError;
pub(crate) use change::{Meaning, meaning};
pub use from_entry::{AttributeError, Unkept};
pub(crate) use kept_xattr::{Holder, has_namespace, kept_in_image, kept_xattr};
pub use read::{
    Discard, EntryProblem, Failure, LayerError, Place, ReadOptions, Sink, SkipIn, read_headers, read_layer,
};
pub use write::{Content, LayerWriter, Special, WriteError, WriteOptions, Written};
