//! Decompressing a whole blob: any number of members (gzip), frames (zstd) or streams (xz, bzip2), one after the other,
//! and the zeros that may pad the last one.
//!
//! The decoders of the compression crates go on to the next member themselves, and take padding for a damaged one. Here
//! each member ends where it ends, and what follows is looked at first (rule D3): another member, padding, or bytes
//! that do not belong there. Nobody may add to a blob what no reader would see.

#[cfg(not(all(feature = "bzip2", feature = "xz")))]
mod absent;
#[cfg(feature = "bzip2")]
mod bzip2;
#[cfg(feature = "xz")]
mod xz;

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, InBuffer, Operation, OutBuffer};

use super::Compression;
#[cfg(not(feature = "bzip2"))]
use absent::bzip2;
#[cfg(not(feature = "xz"))]
use absent::xz;

/// The largest window of a zstd frame that is taken, as a power of two: 128 MiB, what the `zstd` program takes too.
const ZSTD_WINDOW: u32 = 27;
/// Padding of an xz stream comes in units of this many bytes, and only then may another stream follow
/// (The .xz File Format, 2.2, "Stream Padding").
const XZ_PADDING: u64 = 4;
/// The most padding. Tapes and pipes pad to a block; a pipe that never ends is not a block.
const MOST_PADDING: u64 = 1 << 30;

/// Bytes behind compressed data that are neither more of it nor padding (rule D3).
#[derive(Debug, thiserror::Error)]
#[error("trailing data at byte {offset}: only zeros may follow the end of the {} data", .compression.name())]
pub(crate) struct TrailingData {
    /// Where it begins, in stored bytes.
    offset: u64,
    compression: Compression,
}

/// A decoder's error. Decoders word the end of their input in many ways; this is what it is.
pub(crate) fn plainly(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::new(ErrorKind::UnexpectedEof, "it ends too early"),
        _ => error,
    }
}

/// Decompresses a whole blob, from its first byte to its last.
pub(crate) struct Decompressor<R: BufRead> {
    decoder: Decoder<R>,
    compression: Compression,
    /// The member that was begun is at its end.
    between: bool,
}

/// Decodes one member.
enum Decoder<R: BufRead> {
    None(Input<R>),
    Gzip(Box<GzDecoder<Input<R>>>),
    Zstd(Frame<R>),
    Xz(xz::Decoder<Input<R>>),
    Bzip2(bzip2::Decoder<Input<R>>),
}

impl<R: BufRead> Decompressor<R> {
    pub(crate) fn new(input: R) -> Result<Self> {
        let mut input = Input::new(input);
        let compression = Compression::detect(input.peek(Compression::START)?);
        let decoder = match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(GzDecoder::new(input))),
            Compression::Zstd => Decoder::Zstd(Frame::new(input)?),
            Compression::Xz => Decoder::Xz(xz::decoder(input)?),
            Compression::Bzip2 => Decoder::Bzip2(bzip2::decoder(input)?),
        };
        Ok(Self { decoder, compression, between: false })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// How many stored bytes were taken.
    pub(crate) fn stored(&self) -> u64 {
        match &self.decoder {
            Decoder::None(input) => input.at,
            Decoder::Gzip(decoder) => decoder.get_ref().at,
            Decoder::Zstd(decoder) => decoder.input.at,
            Decoder::Xz(decoder) => decoder.get_ref().at,
            Decoder::Bzip2(decoder) => decoder.get_ref().at,
        }
    }

    pub(crate) fn into_inner(mut self) -> Option<R> {
        std::mem::take(self.input()).inner
    }

    fn input(&mut self) -> &mut Input<R> {
        match &mut self.decoder {
            Decoder::None(input) => input,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => &mut decoder.input,
            Decoder::Xz(decoder) => decoder.get_mut(),
            Decoder::Bzip2(decoder) => decoder.get_mut(),
        }
    }

    /// Reads of one member; 0 at its end.
    fn read_member(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match &mut self.decoder {
            Decoder::None(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer),
            Decoder::Bzip2(decoder) => decoder.read(buffer),
        }
    }

    /// Behind a member: whether another one begins here.
    fn another(&mut self) -> Result<bool> {
        let compression = self.compression;
        let input = self.input();
        let offset = input.at;
        let start = input.peek(Compression::START)?;
        if start.is_empty() {
            return Ok(false);
        }
        if Compression::detect(start) == compression {
            return Ok(true);
        }
        let zeros = input.skip_zeros()?;
        let start = input.peek(Compression::START)?;
        if start.is_empty() {
            return Ok(false);
        }
        let is_padded_stream = compression == Compression::Xz && zeros > 0 && zeros.is_multiple_of(XZ_PADDING);
        if is_padded_stream && Compression::detect(start) == compression {
            return Ok(true);
        }
        let offset = offset + zeros;
        Err(Error::new(ErrorKind::InvalidData, TrailingData { offset, compression }))
    }

    /// Begins the member that the input is at.
    fn begin(&mut self) -> Result<()> {
        let input = std::mem::take(self.input());
        match &mut self.decoder {
            Decoder::None(plain) => *plain = input,
            Decoder::Gzip(decoder) => drop(decoder.reset(input)),
            Decoder::Zstd(decoder) => decoder.input = input,
            Decoder::Xz(decoder) => *decoder = xz::decoder(input)?,
            Decoder::Bzip2(decoder) => *decoder = bzip2::decoder(input)?,
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.between {
                if !self.another()? {
                    return Ok(0);
                }
                self.begin()?;
                self.between = false;
            }
            match self.read_member(buffer)? {
                0 if self.compression == Compression::None => return Ok(0),
                0 => self.between = true,
                count => return Ok(count),
            }
        }
    }
}

/// Decodes zstd frames one by one, with one context: there may be one frame for every file.
struct Frame<R> {
    input: Input<R>,
    decoder: zstd::stream::raw::Decoder<'static>,
    /// All of it was handed out.
    ended: bool,
}

impl<R: BufRead> Frame<R> {
    fn new(input: Input<R>) -> Result<Self> {
        let mut decoder = zstd::stream::raw::Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
        Ok(Self { input, decoder, ended: false })
    }

    /// Reads of one frame; 0 at its end, and then of the next.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while !std::mem::take(&mut self.ended) {
            let stored = self.input.fill_buf()?;
            let at_end = stored.is_empty();
            let (mut from, mut to) = (InBuffer::around(stored), OutBuffer::around(&mut *buffer));
            let missing = self.decoder.run(&mut from, &mut to)?;
            let (taken, count) = (from.pos(), to.pos());
            self.input.consume(taken);
            self.ended = missing == 0;
            if count > 0 {
                return Ok(count);
            }
            if at_end && !self.ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

/// Stored bytes, counted, of which the next few can be looked at.
///
/// The default is what stands in a decoder's place while its input is elsewhere.
struct Input<R> {
    inner: Option<R>,
    /// Looked at, and not taken yet.
    ahead: Vec<u8>,
    /// Bytes taken.
    at: u64,
}

impl<R> Default for Input<R> {
    fn default() -> Self {
        Self { inner: None, ahead: Vec::new(), at: 0 }
    }
}

impl<R: BufRead> Input<R> {
    fn new(inner: R) -> Self {
        Self { inner: Some(inner), ..Self::default() }
    }

    /// The next bytes, as many as that or all there are.
    fn peek(&mut self, count: usize) -> Result<&[u8]> {
        if let Some(inner) = &mut self.inner {
            let missing = count.saturating_sub(self.ahead.len()) as u64;
            inner.by_ref().take(missing).read_to_end(&mut self.ahead)?;
        }
        Ok(&self.ahead)
    }

    /// Takes zeros, and says how many there were.
    fn skip_zeros(&mut self) -> Result<u64> {
        let start = self.at;
        loop {
            let next = self.fill_buf()?;
            let zeros = next.iter().position(|&byte| byte != 0).unwrap_or(next.len());
            let done = zeros < next.len() || next.is_empty();
            self.consume(zeros);
            if done {
                return Ok(self.at - start);
            }
            if self.at - start > MOST_PADDING {
                return Err(Error::new(ErrorKind::InvalidData, "its padding has no end"));
            }
        }
    }
}

impl<R: BufRead> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Input<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        match &mut self.inner {
            _ if !self.ahead.is_empty() => Ok(&self.ahead),
            Some(inner) => inner.fill_buf(),
            None => Ok(&[]),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount as u64;
        if !self.ahead.is_empty() {
            self.ahead.drain(..amount);
        } else if let Some(inner) = &mut self.inner {
            inner.consume(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Write};

    use super::super::{Blob, BlobError, Digest, Pace};
    use super::*;
    use crate::core::chain::Chain;
    use crate::core::limits::Limits;

    type Compress = fn(&[u8]) -> Vec<u8>;

    const ALL: &[(Compression, Compress)] = &[
        (Compression::Gzip, |bytes| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }),
        (Compression::Zstd, |bytes| zstd::encode_all(bytes, 1).unwrap()),
        #[cfg(feature = "xz")]
        (Compression::Xz, |bytes| {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }),
        #[cfg(feature = "bzip2")]
        (Compression::Bzip2, |bytes| {
            let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }),
    ];

    /// Content larger than the buffers on the way.
    fn content() -> Vec<u8> {
        (0..70_000u32).flat_map(u32::to_le_bytes).collect()
    }

    /// Reads in pieces of this size, from a source that hands out as few bytes at a time.
    fn read(stored: &[u8], piece: usize) -> std::result::Result<Vec<u8>, String> {
        let input = BufReader::with_capacity(piece, Cursor::new(stored));
        let mut decompressor = Decompressor::new(input).unwrap();
        let mut all = Vec::new();
        decompressor.read_to_end(&mut all).map_err(|error| plainly(error).to_string())?;
        assert_eq!(decompressor.stored(), stored.len() as u64);
        let mut left = Vec::new();
        decompressor.into_inner().unwrap().read_to_end(&mut left).unwrap();
        assert_eq!(left, b"", "nothing goes unread");
        Ok(all)
    }

    #[test]
    fn d3_members_follow_one_another() {
        let content = content();
        for &(_, compress) in ALL {
            let (first, second) = content.split_at(content.len() / 3);
            let members = [compress(first), compress(b""), compress(second), compress(b"")].concat();
            for piece in [1, 7, 128 << 10] {
                assert!(read(&members, piece).unwrap() == content);
            }
            // One for every file, as eStargz and zstd:chunked have it.
            assert_eq!(read(&compress(b"ab").repeat(1000), 100).unwrap(), b"ab".repeat(1000));
        }
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let zstd = [&skippable[..], &zstd::encode_all(&content[..], 1).unwrap(), &skippable].concat();
        assert!(read(&zstd, 5).unwrap() == content);
    }

    #[test]
    fn d3_zeros_behind_compressed_data_are_padding() {
        for &(_, compress) in ALL {
            for zeros in [1, 3, 4, 9, 512, 10_240, 300_001] {
                let padded = [compress(b"content"), vec![0; zeros]].concat();
                for piece in [1, 7, 128 << 10] {
                    assert_eq!(read(&padded, piece).unwrap(), b"content");
                }
            }
        }
    }

    #[test]
    fn d3_anything_else_behind_compressed_data_is_refused_as_trailing_data() {
        for &(compression, compress) in ALL {
            let member = compress(b"content");
            let padded = [&member[..], &[0; 700]].concat();
            let others: Vec<Vec<u8>> =
                ALL.iter().filter(|(other, _)| *other != compression).map(|(_, other)| other(b"x")).collect();
            // `gzip -d` ignores what comes behind padding, a member or not; only the .xz format has padding between
            // streams.
            let behind_padding = if compression == Compression::Xz { b"content".to_vec() } else { member.clone() };
            for (before, after) in [
                (&member, b"garbage".to_vec()),
                (&member, vec![0x1f]),
                (&padded, b"\n".to_vec()),
                (&padded, behind_padding),
            ]
            .into_iter()
            .chain(others.into_iter().map(|other| (&member, other)))
            {
                let stored = [&before[..], &after].concat();
                for piece in [1, 128 << 10] {
                    let expected = format!(
                        "trailing data at byte {}: only zeros may follow the end of the {} data",
                        before.len(),
                        compression.name()
                    );
                    assert_eq!(read(&stored, piece).unwrap_err(), expected);
                }
            }
            assert_eq!(read(&[&member[..], &member[..member.len() - 1]].concat(), 7).unwrap_err(), "it ends too early");
        }
        for (_, xz) in ALL.iter().filter(|(compression, _)| *compression == Compression::Xz) {
            let streams = |padding| read(&[xz(b"one"), vec![0; padding], xz(b"two")].concat(), 7);
            assert_eq!(streams(8).unwrap(), b"onetwo");
            assert!(streams(7).unwrap_err().starts_with("trailing data at byte"));
        }
    }

    #[test]
    fn a_compression_that_was_left_out_names_its_feature() {
        for (feature, stored) in [("xz", &b"\xfd7zXZ\0\0\0\0\0"[..]), ("bzip2", b"BZh91AY&SY")] {
            let is_there = ALL.iter().any(|(compression, _)| compression.name() == feature);
            let found = Decompressor::new(stored).err().map(|error| error.to_string());
            let expected =
                format!("it is compressed by {feature}, which needs the feature `{feature}`, which this build lacks");
            assert_eq!(found, (!is_there).then_some(expected));
        }
    }

    /// The digest and the size of a blob are those of all of its bytes.
    #[test]
    fn d3_padding_counts_for_the_digest() {
        for &(compression, compress) in ALL {
            let stored = [compress(&content()), vec![0; 5000]].concat();
            let blob = |stored: &[u8]| {
                Blob::from_bytes(stored).stated(Some(Digest::sha256_of(stored)), Some(stored.len() as u64))
            };
            for pace in [Pace::OnDemand, Pace::Ahead] {
                let open = |stored| blob(stored).open_layer(&Limits::default(), pace).unwrap();
                let facts = open(&stored).finish().unwrap();
                assert_eq!((facts.size, facts.compression), (stored.len() as u64, compression));
                assert_eq!((facts.digest, facts.diff_id), (Digest::sha256_of(&stored), Digest::sha256_of(&content())));

                let followed = [&stored[..], b"x"].concat();
                let error = open(&followed).finish().unwrap_err();
                assert!(
                    matches!(error, BlobError::Damaged { .. })
                        && Chain(&error).to_string().contains(": trailing data at byte")
                );
                // Other padding is another blob.
                let longer = [&stored[..], &[0]].concat();
                let altered = Blob::from_bytes(longer).stated(Some(Digest::sha256_of(&stored)), None);
                let error = altered.open_layer(&Limits::default(), pace).unwrap().finish().unwrap_err();
                assert!(matches!(error, BlobError::Digest { .. }), "{error}");
            }
        }
    }
}
