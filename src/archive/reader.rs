//! From bytes to entries.

use super::Entry;

/// What the reader found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The input is used up; feed more, or call [`Reader::finish`].
    NeedInput,
    /// An entry begins. A file's content follows as [`Event::Data`], then comes [`Event::EndOfEntry`], for every kind.
    Entry(Box<Entry>),
    /// Content of the current file, at `offset` of the expanded file. What lies between two of these is a hole.
    Data {
        /// Where in the file these bytes belong.
        offset: u64,
        /// The bytes, borrowed from the input.
        bytes: &'a [u8],
    },
    /// All of the current entry was seen.
    EndOfEntry,
    /// A global PAX header was met and ignored.
    GlobalHeader,
    /// The two zero blocks that end an archive. All input from here on is swallowed.
    End,
}

/// The most that a hostile archive may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one PAX header or GNU long name. Go's `archive/tar` takes 1 MiB.
    pub extended_header: u64,
    /// Fragments in the map of one sparse file.
    pub sparse_fragments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { extended_header: 1 << 20, sparse_fragments: 1 << 20 }
    }
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The input ends inside a header or a file's content.
    #[error("the archive is truncated")]
    Truncated,
}

/// Reads an archive that is fed to it piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    limits: Limits,
}

impl Reader {
    /// A reader at the start of an archive.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes bytes off the front of `input` until something is found.
    ///
    /// # Errors
    /// A damaged or hostile archive. The reader is of no use after that.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, ArchiveError> {
        let _ = (self.limits, input);
        Ok(Event::NeedInput)
    }

    /// How many bytes of input the reader would pass over now without a look at them: the rest of the current
    /// file's content and padding. A caller that can seek may skip them and say so with [`Reader::skip`].
    pub fn skippable(&self) -> u64 {
        0
    }

    /// Says that `bytes` (at most [`Reader::skippable`]) of input were passed over.
    pub fn skip(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Says that the input has ended.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] if it ended where an archive cannot end. Missing zero blocks and missing padding are fine.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}
