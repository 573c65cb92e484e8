//! Decodes streams of bzip2.

use std::io::{BufRead, Result};

pub(super) use ::bzip2::bufread::BzDecoder as Decoder;

/// Decodes one stream.
#[allow(clippy::unnecessary_wraps, reason = "as the other decoders, of which one can fail")]
pub(super) fn decoder<R: BufRead>(input: R) -> Result<Decoder<R>> {
    Ok(Decoder::new(input))
}
