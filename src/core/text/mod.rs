//! Values for messages and JSON: bytes without a known encoding, and times.

mod bytes;
mod printable;
mod timestamp;

pub use bytes::Bytes;
pub use printable::{Printable, steers_terminal};
pub use timestamp::Timestamp;
