//! Reads entries from bytes: the framing of an archive (Go reader.go `next`).

use super::header::{self, BLOCK, Dialect, Fields};
use super::pax::Records;
use super::sparse::{self, ContentMap, Fragment, PaxFormat};
use super::{Entry, EntryKind};
use crate::core::text::{Printable, Timestamp};

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
    /// A header whose checksum is not that of its bytes: no tar archive, or a damaged one.
    #[error("a header with a wrong checksum: this is not a tar archive, or it is damaged")]
    Checksum,
    /// One zero block, followed by another block.
    #[error("a single zero block in the middle of the archive")]
    LoneZeroBlock,
    /// A field that should be a number.
    #[error("{field} is {:?}, which is not a valid number", Printable(.value))]
    Number {
        /// Which field or record.
        field: &'static str,
        /// What it holds.
        value: Vec<u8>,
    },
    /// A size below zero.
    #[error("a size of {0} bytes")]
    NegativeSize(i64),
    /// A PAX record whose length, key or value cannot be.
    #[error("malformed PAX record at {:?}", Printable(.0))]
    PaxRecord(Vec<u8>),
    /// A PAX header or long name that is too long.
    #[error("an extended header of {size} bytes exceeds the limit of {limit}")]
    ExtendedHeaderTooLong {
        /// Its size.
        size: u64,
        /// The most it may have.
        limit: u64,
    },
    /// A map of holes that cannot be.
    #[error("malformed map of a sparse file")]
    SparseMap,
    /// A map of holes that is too long.
    #[error("the map of a sparse file has more than {0} fragments")]
    SparseTooLong(usize),
    /// An entry of a type that layers do not have.
    #[error("an entry of type {:?}, which container images do not have", Printable(&[*.0]))]
    UnknownType(u8),
}

/// Reads an archive that is fed to it piece by piece.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    state: State,
    /// What of the current block is there, when it came in pieces.
    partial: Vec<u8>,
    /// Input to skip before the next header: unread content and padding.
    passing: u64,
    /// Of `passing`, what is only padding: an archive may end in it.
    padding: u64,
    /// Whether padding that was passed over was not all zeros, since somebody last asked.
    padding_shows: bool,
    pax: Option<Records>,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header {
        zero_before: bool,
    },
    /// Collecting the content of an extended header.
    Extended {
        kind: u8,
        rest: u64,
        content: Vec<u8>,
    },
    /// Collecting the blocks that continue an old sparse map.
    OldMap {
        fields: Box<Fields>,
        size: i64,
        map: Vec<Fragment>,
    },
    /// Collecting the blocks of a map at the start of the content.
    ContentMap {
        entry: Box<Entry>,
        stored: u64,
        map: ContentMap,
    },
    Data {
        offset: u64,
        fragment: u64,
        map: std::vec::IntoIter<Fragment>,
        stored: u64,
    },
    EndOfEntry,
    /// What the archive is damaged by.
    Failed(ArchiveError),
    End,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Reader {
    /// A reader at the start of an archive.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Header { zero_before: false },
            partial: Vec::new(),
            passing: 0,
            padding: 0,
            padding_shows: false,
            pax: None,
            long_name: Vec::new(),
            long_link: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` until something is found.
    ///
    /// # Errors
    /// A damaged or hostile archive. The same error answers all that is asked after it.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, ArchiveError> {
        let event = self.advance(input);
        if let Err(error) = &event {
            self.state = State::Failed(error.clone());
        }
        event
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, ArchiveError> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(error.clone()),
                State::End => {
                    *input = &[];
                    return Ok(Event::NeedInput);
                }
                State::EndOfEntry => {
                    self.state = State::Header { zero_before: false };
                    return Ok(Event::EndOfEntry);
                }
                State::Data { offset, fragment, map, stored } => {
                    if *fragment == 0 {
                        match map.next() {
                            Some(next) => (*offset, *fragment) = (next.offset, next.length),
                            None => self.state = State::EndOfEntry,
                        }
                        continue;
                    }
                    if input.is_empty() {
                        return Ok(Event::NeedInput);
                    }
                    let length = usize::try_from(*fragment).unwrap_or(usize::MAX).min(input.len());
                    let (bytes, rest) = input.split_at(length);
                    let at = *offset;
                    *offset += length as u64;
                    *fragment -= length as u64;
                    *stored -= length as u64;
                    *input = rest;
                    return Ok(Event::Data { offset: at, bytes });
                }
                _ if self.passing > 0 => {
                    let length = usize::try_from(self.passing).unwrap_or(usize::MAX).min(input.len());
                    let payload = self.passing.saturating_sub(self.padding).min(length as u64) as usize;
                    self.padding_shows |= input[payload..length].iter().any(|&byte| byte != 0);
                    *input = &input[length..];
                    self.passing -= length as u64;
                    if self.passing > 0 {
                        return Ok(Event::NeedInput);
                    }
                }
                State::Extended { kind, rest, content } if *rest > 0 => {
                    let length = usize::try_from(*rest).unwrap_or(usize::MAX).min(input.len());
                    content.extend_from_slice(&input[..length]);
                    *input = &input[length..];
                    *rest -= length as u64;
                    if *rest > 0 {
                        return Ok(Event::NeedInput);
                    }
                    let _ = kind;
                }
                State::Extended { kind, content, .. } => {
                    let (kind, content) = (*kind, std::mem::take(content));
                    self.state = State::Header { zero_before: false };
                    self.pass_padding(content.len() as u64);
                    if let Some(event) = self.extended(kind, &content)? {
                        return Ok(event);
                    }
                }
                State::Header { .. } | State::OldMap { .. } | State::ContentMap { .. } => {
                    let Some(block) = take_block(&mut self.partial, input) else {
                        return Ok(Event::NeedInput);
                    };
                    if let Some(event) = self.block(&block)? {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// What of the file whose entry was just handed out is stored: its fragments, one behind the other from here on.
    pub fn fragments(&self) -> &[Fragment] {
        match &self.state {
            State::Data { map, .. } => map.as_slice(),
            _ => &[],
        }
    }

    /// Whether the padding behind a file that was passed over since the last call was not all zeros, or is not there. It is of no consequence
    /// but for those who show whole blocks.
    pub fn take_padding_shows(&mut self) -> bool {
        std::mem::take(&mut self.padding_shows)
    }

    /// How many bytes of the current file's content are still to come, without padding. They may be skipped, as [`Reader::skippable`] says.
    pub fn content_left(&self) -> u64 {
        if let State::Data { stored, .. } = &self.state { *stored } else { 0 }
    }

    /// How many bytes of input the reader would pass over now without a look at them: the rest of the current
    /// file's content and padding. A caller that can seek may skip them and say so with [`Reader::skip`].
    pub fn skippable(&self) -> u64 {
        match &self.state {
            State::Data { stored, .. } => stored + self.passing,
            State::Header { .. } => self.passing,
            _ => 0,
        }
    }

    /// Says that `bytes` (at most [`Reader::skippable`]) of input were passed over.
    pub fn skip(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.skippable());
        let mut bytes = bytes;
        while let State::Data { offset, fragment, map, stored } = &mut self.state
            && bytes > 0
            && *stored > 0
        {
            if *fragment == 0 {
                match map.next() {
                    Some(next) => (*offset, *fragment) = (next.offset, next.length),
                    None => break,
                }
            }
            let length = bytes.min(*fragment);
            *offset += length;
            *fragment -= length;
            *stored -= length;
            bytes -= length;
        }
        self.passing -= bytes.min(self.passing);
    }

    /// Says that the input has ended.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] if it ended where an archive cannot end (missing zero blocks and missing padding are
    /// fine), and the error that [`Reader::next`] gave, if it gave one.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        let complete = match &self.state {
            State::End => true,
            State::Header { .. } => self.partial.is_empty() && self.passing <= self.padding,
            State::EndOfEntry => self.passing <= self.padding,
            State::Data { stored, .. } => *stored == 0,
            State::Failed(error) => return Err(error.clone()),
            _ => false,
        };
        self.padding_shows |= self.passing > 0;
        if complete { Ok(()) } else { Err(ArchiveError::Truncated) }
    }

    fn block<'a>(&mut self, block: &[u8; BLOCK]) -> Result<Option<Event<'a>>, ArchiveError> {
        match std::mem::replace(&mut self.state, State::Header { zero_before: false }) {
            State::Header { zero_before } => self.header(block, zero_before),
            State::OldMap { fields, size, mut map } => {
                if sparse::old_map(&block[..504], block[504], &mut map, self.limits)? {
                    self.state = State::OldMap { fields, size, map };
                    return Ok(None);
                }
                self.old_sparse(*fields, size, map).map(Some)
            }
            State::ContentMap { entry, stored, mut map } => {
                let stored = stored.checked_sub(BLOCK as u64).ok_or(ArchiveError::SparseMap)?;
                match map.block(block, self.limits)? {
                    Some(map) => self.begin(entry, stored, Some(map)).map(Some),
                    None => {
                        self.state = State::ContentMap { entry, stored, map };
                        Ok(None)
                    }
                }
            }
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    fn header<'a>(&mut self, block: &[u8; BLOCK], zero_before: bool) -> Result<Option<Event<'a>>, ArchiveError> {
        if block.iter().all(|&byte| byte == 0) {
            if zero_before {
                self.state = State::End;
                return Ok(Some(Event::End));
            }
            self.state = State::Header { zero_before: true };
            return Ok(None);
        }
        if zero_before {
            return Err(ArchiveError::LoneZeroBlock);
        }
        let fields = header::parse(block)?;
        // Links, devices, directories and FIFOs have no content, whatever their size says.
        let stored = if matches!(fields.kind, b'1'..=b'6') { 0 } else { fields.size };
        let stored = u64::try_from(stored).map_err(|_| ArchiveError::NegativeSize(stored))?;
        match fields.kind {
            kind @ (b'x' | b'g' | b'L' | b'K') => {
                if stored > self.limits.extended_header {
                    let limit = self.limits.extended_header;
                    return Err(ArchiveError::ExtendedHeaderTooLong { size: stored, limit });
                }
                self.state = State::Extended { kind, rest: stored, content: Vec::new() };
                Ok(None)
            }
            b'V' => {
                // Go hands it out as an entry: its size is the record's, where there is one.
                let records = self.pax.take().unwrap_or_default();
                let size = records.number("size")?.unwrap_or(fields.size);
                let stored = u64::try_from(size).map_err(|_| ArchiveError::NegativeSize(size))?;
                self.forget_extended();
                self.passing = stored;
                self.pass_padding(stored);
                Ok(None)
            }
            b'S' => {
                if fields.dialect != Dialect::Gnu {
                    return Err(ArchiveError::SparseMap);
                }
                let size = header::number("real size", &block[483..495])?;
                let mut map = Vec::new();
                if sparse::old_map(&block[386..482], block[482], &mut map, self.limits)? {
                    self.state = State::OldMap { fields: Box::new(fields), size, map };
                    return Ok(None);
                }
                self.old_sparse(fields, size, map).map(Some)
            }
            _ => self.plain(fields),
        }
    }

    /// An extended header is complete.
    fn extended<'a>(&mut self, kind: u8, content: &[u8]) -> Result<Option<Event<'a>>, ArchiveError> {
        match kind {
            b'L' => self.long_name = header::text(content).to_vec(),
            b'K' => self.long_link = header::text(content).to_vec(),
            b'x' => self.pax = Some(Records::parse(content)?),
            _ => {
                Records::parse(content)?;
                // Go hands it out as an entry of its own, which uses up what came before.
                self.forget_extended();
                return Ok(Some(Event::GlobalHeader));
            }
        }
        Ok(None)
    }

    fn forget_extended(&mut self) {
        self.pax = None;
        self.long_name.clear();
        self.long_link.clear();
    }

    fn plain<'a>(&mut self, fields: Fields) -> Result<Option<Event<'a>>, ArchiveError> {
        let (entry, stored) = self.entry(fields)?;
        let records = Records(entry.records.clone());
        match sparse::pax_format(&records) {
            None => self.begin(entry, stored, None).map(Some),
            Some(_) if entry.kind != EntryKind::File => Err(ArchiveError::SparseMap),
            Some(format) => {
                let mut entry = entry;
                if let Some(name) = records.get(b"GNU.sparse.name") {
                    entry.name = name.to_vec();
                }
                let size = match records.number("GNU.sparse.size")? {
                    None => records.number("GNU.sparse.realsize")?,
                    size => size,
                };
                if let Some(size) = size {
                    entry.size = u64::try_from(size).map_err(|_| ArchiveError::NegativeSize(size))?;
                }
                if format == PaxFormat::Record {
                    let map = sparse::record_map(&records, self.limits)?;
                    return self.begin(entry, stored, Some(map)).map(Some);
                }
                self.state = State::ContentMap { entry, stored, map: ContentMap::default() };
                Ok(None)
            }
        }
    }

    fn old_sparse<'a>(&mut self, fields: Fields, size: i64, map: Vec<Fragment>) -> Result<Event<'a>, ArchiveError> {
        let (mut entry, stored) = self.entry(fields)?;
        entry.size = u64::try_from(size).map_err(|_| ArchiveError::NegativeSize(size))?;
        self.begin(entry, stored, Some(map))
    }

    /// Applies the extended headers that came before (Go reader.go `mergePAX`); and how many bytes are stored.
    fn entry(&mut self, fields: Fields) -> Result<(Box<Entry>, u64), ArchiveError> {
        let records = self.pax.take().unwrap_or_default();
        let mut entry = Entry {
            kind: EntryKind::File,
            name: records.get(b"path").map_or(fields.name, <[u8]>::to_vec),
            link_name: records.get(b"linkpath").map_or(fields.link_name, <[u8]>::to_vec),
            mode: fields.mode,
            uid: records.number("uid")?.unwrap_or(fields.uid),
            gid: records.number("gid")?.unwrap_or(fields.gid),
            size: 0,
            mtime: records.time("mtime")?.unwrap_or(Timestamp { seconds: fields.mtime, nanoseconds: 0 }),
            atime: records.time("atime")?,
            device: (0, 0),
            sparse: false,
            records: Vec::new(),
        };
        // Checked although it is of no use: Go refuses the archive.
        records.time("ctime")?;
        if !self.long_name.is_empty() {
            entry.name = std::mem::take(&mut self.long_name);
        }
        if !self.long_link.is_empty() {
            entry.link_name = std::mem::take(&mut self.long_link);
        }
        entry.kind = match fields.kind {
            0 if entry.name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            unknown => return Err(ArchiveError::UnknownType(unknown)),
        };
        if matches!(entry.kind, EntryKind::CharacterDevice | EntryKind::BlockDevice) {
            entry.device = fields.device;
        }
        let size = records.number("size")?.unwrap_or(fields.size);
        let stored = if entry.kind == EntryKind::File { size } else { 0 };
        let stored = u64::try_from(stored).map_err(|_| ArchiveError::NegativeSize(size))?;
        entry.size = stored;
        entry.records = records.0;
        Ok((Box::new(entry), stored))
    }

    /// An entry is complete; its content follows.
    fn begin<'a>(
        &mut self,
        mut entry: Box<Entry>,
        stored: u64,
        map: Option<Vec<Fragment>>,
    ) -> Result<Event<'a>, ArchiveError> {
        entry.sparse = map.is_some();
        let map = match map {
            Some(map) => {
                sparse::check(&map, entry.size, stored)?;
                map
            }
            None => vec![Fragment { offset: 0, length: stored }],
        };
        // Blocks of a map that lay before the content were whole ones: the padding is the content's alone.
        self.pass_padding(stored);
        self.state = State::Data { offset: 0, fragment: 0, map: map.into_iter(), stored };
        Ok(Event::Entry(entry))
    }

    fn pass_padding(&mut self, stored: u64) {
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        self.passing += self.padding;
    }
}

/// A whole block off the front of the input, with what came before of it.
fn take_block(partial: &mut Vec<u8>, input: &mut &[u8]) -> Option<[u8; BLOCK]> {
    if partial.is_empty()
        && let Some((block, rest)) = input.split_first_chunk::<BLOCK>()
    {
        *input = rest;
        return Some(*block);
    }
    let length = (BLOCK - partial.len()).min(input.len());
    partial.extend_from_slice(&input[..length]);
    *input = &input[length..];
    let block = partial.as_slice().try_into().ok()?;
    partial.clear();
    Some(block)
}
