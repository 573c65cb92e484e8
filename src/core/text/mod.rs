//! Values that are shown to people and programs: bytes of no particular encoding, and times.

mod bytes;
mod printable;
mod timestamp;

pub use bytes::Bytes;
pub use printable::{Printable, steers_terminal};
pub use timestamp::Timestamp;
