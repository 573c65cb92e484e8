//! Compression, told by what the bytes are and not by what a media type says they are.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use flate2::bufread::MultiGzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// The largest window of a zstd frame that is taken, as a power of two: 128 MiB, what the `zstd` program takes too.
const ZSTD_WINDOW: u32 = 27;
/// The most memory that an xz stream may ask for: presets up to -9 need 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames, skippable ones among them.
    Zstd,
    /// The .xz file format, any number of streams.
    Xz,
    /// bzip2, any number of streams.
    Bzip2,
}

impl Compression {
    /// As it is called in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// Bytes by which a compression is recognised.
    pub(crate) const START: usize = 10;

    /// How bytes that begin so are compressed. Ten bytes are enough.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The level, and then pi, or the mark of an empty stream.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// A decoder's error. Decoders word the end of their input in many ways; this is what it is.
pub(crate) fn plainly(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::new(ErrorKind::UnexpectedEof, "it ends too early"),
        _ => error,
    }
}

/// Decompresses a whole stream, to its last member, frame or stream.
pub(crate) enum Decompressor<R: BufRead> {
    None(R),
    Gzip(MultiGzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
    Xz(liblzma::bufread::XzDecoder<R>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
}

impl<R: BufRead> Decompressor<R> {
    pub(crate) fn new(mut input: R) -> Result<(Self, Compression)> {
        let compression = Compression::detect(input.fill_buf()?);
        let decompressor = match compression {
            Compression::None => Self::None(input),
            Compression::Gzip => Self::Gzip(MultiGzDecoder::new(input)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(decoder)
            }
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Self::Xz(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Compression::Bzip2 => Self::Bzip2(bzip2::bufread::MultiBzDecoder::new(input)),
        };
        Ok((decompressor, compression))
    }

    pub(crate) fn get_ref(&self) -> &R {
        match self {
            Self::None(inner) => inner,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.get_ref(),
            Self::Bzip2(decoder) => decoder.get_ref(),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::None(inner) => inner,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::None(inner) => inner.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
        }
    }
}
