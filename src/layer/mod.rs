//! What a layer says: names, attributes, changes, and the record of them. No I/O, but for [`read`], which takes a
//! layer's bytes from a reader and hands file contents on to a [`Sink`].

mod attributes;
mod change;
mod path;
mod read;
mod record;

pub use attributes::{Attributes, Timestamp, Xattrs};
pub use path::{LayerPath, PathError, Printable};
