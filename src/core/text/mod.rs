//! Values for messages and JSON: bytes without a known encoding, and times.

mod bytes;
mod numbers;
mod printable;
mod timestamp;

pub use bytes::Bytes;
pub(crate) use numbers::version;
pub use numbers::{count, counted, parse_size};
pub use printable::{Printable, steers_terminal};
pub use timestamp::Timestamp;

/// The parts of an input of a fuzz target, which are separated by NUL.
#[cfg(any(fuzzing, test))]
pub(crate) fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |&byte| byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
