//! Decodes streams of the .xz file format.

use std::io::{BufRead, Result};

pub(super) use liblzma::bufread::XzDecoder as Decoder;
use liblzma::stream::Stream;

/// The most memory that a stream may ask for: presets up to -9 need 65 MiB.
const MOST_MEMORY: u64 = 256 << 20;

/// Decodes one stream.
pub(super) fn decoder<R: BufRead>(input: R) -> Result<Decoder<R>> {
    Ok(Decoder::new_stream(input, Stream::new_stream_decoder(MOST_MEMORY, 0)?))
}
