//! The record of a layer in memory: names, attributes, and changes in the order of the archive; no file contents.

mod attributes;
mod names;
mod path;
#[expect(clippy::module_inception, reason = "the type that the room is named for")]
mod record;

pub use attributes::{Attributes, Xattrs};
pub use names::{NameId, Names};
pub(crate) use path::WHITEOUT;
pub use path::{LayerPath, PathError};
pub(crate) use record::RECORD_VERSION;
pub use record::{Change, ChangeKind, ContentId, DeviceKind, Record};
