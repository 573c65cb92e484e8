//! The contents of one layer's files, one after the other in one file without a name, for those who unpack no tree but
//! want contents in an order of their own. Holes are kept as such: they take no room, and come out as holes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::core::layer::{Content, Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::core::tar::Fragment;
use crate::unpack::{LossKind, Losses};

/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;

/// Takes the contents of a layer's files.
#[derive(Debug)]
pub(crate) struct ContentsWriter {
    file: BufWriter<File>,
    contents: Contents,
    end: u64,
    name: NameId,
    losses: Losses<NameId>,
}

/// The contents of a layer's files.
#[derive(Debug)]
pub(crate) struct Contents {
    file: File,
    files: Vec<Stored>,
    fragments: Vec<Fragment>,
}

/// Where a file's content is: its stored bytes, and where its fragments begin; they end where the next file's begin.
#[derive(Debug, Clone, Copy)]
struct Stored {
    start: u64,
    fragments: usize,
}

impl ContentsWriter {
    /// Keeps the contents on the file system of a directory.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        let contents = Contents { file: file.try_clone()?, files: Vec::new(), fragments: Vec::new() };
        let file = BufWriter::with_capacity(CHUNK, file);
        Ok(Self { file, contents, end: 0, name: NameId::ROOT, losses: Losses::default() })
    }

    /// When the layer is read: its contents, and what could not be kept of its attributes.
    pub(crate) fn into_contents(self) -> (Contents, Losses<NameId>) {
        (self.contents, self.losses)
    }

    fn failure(&self, error: io::Error) -> Failure<io::Error> {
        Failure { name: self.name, error }
    }
}

impl Sink for ContentsWriter {
    type Error = io::Error;

    fn begin(
        &mut self,
        _: &Names,
        name: NameId,
        _: &Attributes,
        _: u64,
        _: Place,
    ) -> Result<ContentId, Failure<io::Error>> {
        self.name = name;
        let id = ContentId(self.contents.files.len() as u32);
        self.contents.files.push(Stored { start: self.end, fragments: self.contents.fragments.len() });
        Ok(id)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<io::Error>> {
        self.file.write_all(bytes).map_err(|error| self.failure(error))?;
        let length = bytes.len() as u64;
        self.end += length;
        let own = self.contents.files.last().map_or(0, |file| file.fragments);
        match self.contents.fragments[own..].last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => self.contents.fragments.push(Fragment { offset, length }),
        }
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<io::Error>> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure<io::Error>> {
        self.file.flush().map_err(|error| self.failure(error))
    }

    fn unkept(&mut self, name: NameId, unkept: Unkept) {
        self.losses.add(LossKind::Xattr, unkept.to_string(), || name);
    }
}

impl Contents {
    /// Where a file's stored bytes begin, and which of its bytes they are: those of each fragment follow those of the one
    /// before.
    pub(crate) fn stored(&self, content: ContentId) -> (u64, &[Fragment]) {
        let index = content.0 as usize;
        let end = self.files.get(index + 1).map_or(self.fragments.len(), |next| next.fragments);
        match self.files.get(index) {
            Some(file) => (file.start, &self.fragments[file.fragments..end]),
            None => (0, &[]),
        }
    }

    /// Reads stored bytes from any place.
    pub(crate) fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    /// A file's content.
    pub(crate) fn of(&self, content: ContentId) -> Content<'_, impl FnMut(u64, &mut [u8]) -> io::Result<()>> {
        let (mut at, fragments) = self.stored(content);
        // Holes take no room: what follows in the file is what follows here.
        let read = move |_, piece: &mut [u8]| {
            self.file.read_exact_at(piece, at)?;
            at += piece.len() as u64;
            Ok(())
        };
        Content { fragments: fragments.into(), read }
    }
}
