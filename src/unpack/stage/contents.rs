//! The contents of layers' files, one after the other in files without names, for those who unpack no tree but want contents in an order of
//! their own. There are as many of these files as layers are read at the same time, since handles are few where layers are many. Holes are kept
//! as such: they take no room, and come out as holes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;

use crate::core::layer::{Content, Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::core::tar::Fragment;
use crate::unpack::{LossKind, Losses};

/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;

/// Files that layers' contents are kept in.
#[derive(Debug)]
pub(crate) struct ContentsFiles {
    directory: PathBuf,
    /// Those that no layer is being written to, and how many bytes each has.
    idle: Mutex<Vec<(Arc<File>, u64)>>,
}

impl ContentsFiles {
    /// Keeps them on the file system of a directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), idle: Mutex::default() }
    }

    /// For the contents of the next layer, behind those of another one.
    pub(crate) fn writer(&self) -> io::Result<ContentsWriter> {
        self.writer_of(None)
    }

    /// The same, for some contents only if they are named; the others take no room, and must not be asked for.
    pub(crate) fn writer_of(&self, only: Option<HashSet<ContentId>>) -> io::Result<ContentsWriter> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (file, end) = match idle {
            Some(idle) => idle,
            None => (Arc::new(tempfile::tempfile_in(&self.directory)?), 0),
        };
        let contents = Contents { file: Arc::clone(&file), files: Vec::new(), fragments: Vec::new() };
        let file = BufWriter::with_capacity(CHUNK, file);
        let losses = Losses::default();
        Ok(ContentsWriter { file, contents, end, name: NameId::ROOT, losses, only, keeps: true })
    }

    /// When the layer is read: its contents, and what could not be kept of its attributes.
    pub(crate) fn finished(&self, writer: ContentsWriter) -> (Contents, Losses<NameId>) {
        let ContentsWriter { contents, end, losses, .. } = writer;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((Arc::clone(&contents.file), end));
        (contents, losses)
    }
}

/// Takes the contents of a layer's files.
#[derive(Debug)]
pub(crate) struct ContentsWriter {
    file: BufWriter<Arc<File>>,
    contents: Contents,
    end: u64,
    name: NameId,
    losses: Losses<NameId>,
    /// Those that are kept, if not all are.
    only: Option<HashSet<ContentId>>,
    /// Whether the file that passes is kept.
    keeps: bool,
}

/// The contents of a layer's files.
#[derive(Debug)]
pub(crate) struct Contents {
    file: Arc<File>,
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
        self.keeps = self.only.as_ref().is_none_or(|only| only.contains(&id));
        self.contents.files.push(Stored { start: self.end, fragments: self.contents.fragments.len() });
        Ok(id)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<io::Error>> {
        if !self.keeps {
            return Ok(());
        }
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
