//! Finds files by name, in a directory or in a tar archive. Names come from the image's documents and are only looked
//! up: in an archive they cannot lead anywhere else.

use crate::transport::io;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blob::{Blob, Piece};
use crate::core::digest::Digest;
use crate::core::record::LayerPath;
use crate::core::tar::{ArchiveError, EntryKind, Event, Reader};
use crate::transport::source::{OpenOptions, SourceError, open_regular};

/// Links that are followed inside an archive.
const MOST_LINKS: usize = 40;
/// Bytes of a first header: who fails there has seen nothing of an archive.
const HEADER: u64 = 512;
/// Bytes read at once while an archive is indexed; contents are passed over by seeking.
const CHUNK: usize = 64 << 10;

/// A place where files are found by name.
#[derive(Debug)]
pub(crate) enum Files {
    Directory(PathBuf),
    Archive { path: PathBuf, file: Arc<File>, index: HashMap<LayerPath, Found> },
}

/// A file of an archive.
#[derive(Debug)]
pub(crate) enum Found {
    File {
        offset: u64,
        length: u64,
    },
    /// A file with holes, as `tar -S` stores it.
    Sparse {
        pieces: Arc<[Piece]>,
        length: u64,
    },
    Link(LayerPath),
    Other,
}

impl Files {
    pub(crate) fn of_directory(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }

    /// Indexes an archive; one that is compressed or comes through a pipe is spooled first.
    pub(crate) fn of_archive(path: &Path, options: &OpenOptions) -> Result<Self, SourceError> {
        Self::of_file(path, io::spool::seekable(path, options)?, options)
    }

    /// Spools an archive that comes as a stream, and indexes it; `path` is what it is called.
    pub(crate) fn of_stream(path: &Path, stream: impl Read, options: &OpenOptions) -> Result<Self, SourceError> {
        Self::of_file(path, io::spool::spool(path, stream, options)?, options)
    }

    fn of_file(path: &Path, (file, length): (File, u64), options: &OpenOptions) -> Result<Self, SourceError> {
        let index = index(path, &file, length, options)?;
        Ok(Self::Archive { path: path.to_owned(), file: Arc::new(file), index })
    }

    /// The path of the archive or directory, for messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive { path, .. } => path,
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).exists(),
            Self::Archive { index, .. } => {
                LayerPath::normalise(name.as_bytes()).is_ok_and(|name| index.contains_key(&name))
            }
        }
    }

    /// The file of a name.
    pub(crate) fn blob(&self, name: &str) -> Result<Blob, SourceError> {
        let missing = || SourceError::Missing(format!("{name:?} in {:?}", self.path()));
        let path = LayerPath::normalise(name.as_bytes()).map_err(|_| missing())?;
        match self {
            Self::Directory(directory) => {
                let place = directory.join(std::str::from_utf8(path.as_bytes()).map_err(|_| missing())?);
                match open_regular(&place) {
                    Ok((_, length)) => Ok(Blob::from_path(&place, length)),
                    Err(SourceError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                        Err(missing())
                    }
                    Err(error) => Err(error),
                }
            }
            Self::Archive { file, index, .. } => {
                let mut at = &path;
                for _ in 0..MOST_LINKS {
                    match index.get(at) {
                        Some(Found::File { offset, length }) => {
                            return Ok(Blob::from_file(Arc::clone(file), *offset, *length));
                        }
                        Some(Found::Sparse { pieces, length }) => {
                            return Ok(Blob::from_pieces(Arc::clone(file), Arc::clone(pieces), *length));
                        }
                        Some(Found::Link(target)) => at = target,
                        Some(Found::Other) => {
                            return Err(SourceError::NotAFile(self.path().join(name)));
                        }
                        None => return Err(missing()),
                    }
                }
                Err(SourceError::Json { name: name.to_owned(), error: "its links lead in a circle".into() })
            }
        }
    }

    /// All bytes of a small file, whose digest is checked if one is stated.
    pub(crate) fn read(
        &self,
        name: &str,
        digest: Option<Digest>,
        size: Option<u64>,
        options: &OpenOptions,
    ) -> Result<Vec<u8>, SourceError> {
        let blob = self.blob(name)?.stated(digest, size);
        blob.read_all(options.limits.metadata_size).map_err(|error| SourceError::Blob { name: name.to_owned(), error })
    }
}

fn index(
    path: &Path,
    file: &File,
    length: u64,
    options: &OpenOptions,
) -> Result<HashMap<LayerPath, Found>, SourceError> {
    let io = |error| SourceError::Io { path: path.to_owned(), error };
    let mut reader = Reader::default();
    let mut index = HashMap::new();
    let mut buffer = vec![0; CHUNK];
    let mut sparse: Option<Sparse> = None;
    let mut position = 0u64;
    while position < length {
        if options.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        let count = crate::fs::read_at(file, &mut buffer, position).map_err(io)?;
        if count == 0 {
            break;
        }
        let mut rest = &buffer[..count];
        loop {
            let at = position + (count - rest.len()) as u64;
            let wrong = |error| wrong(path, at, error);
            match reader.next(&mut rest).map_err(wrong)? {
                Event::NeedInput => break,
                Event::Data { offset, bytes } => {
                    let end = position + (count - rest.len()) as u64;
                    let length = bytes.len() as u64;
                    if let Some(sparse) = &mut sparse {
                        sparse.add(Piece { at: offset, offset: end - length, length });
                    }
                }
                Event::EndOfEntry => {
                    if let Some(Sparse { name, pieces, length }) = sparse.take() {
                        index.insert(name, Found::Sparse { pieces: pieces.into(), length });
                    }
                }
                Event::Entry(entry) => {
                    // Where its content begins: what the reader has not taken yet.
                    let content = position + (count - rest.len()) as u64;
                    let found = match entry.kind {
                        EntryKind::File if entry.sparse => Found::Sparse { pieces: Arc::new([]), length: entry.size },
                        EntryKind::File => Found::File { offset: content, length: entry.size },
                        EntryKind::Symlink => link(&entry.name, &entry.link_name),
                        EntryKind::HardLink => LayerPath::normalise(&entry.link_name).map_or(Found::Other, Found::Link),
                        _ => Found::Other,
                    };
                    // A name that climbs cannot be asked for.
                    if let Ok(name) = LayerPath::normalise(&entry.name) {
                        sparse = entry.sparse.then(|| Sparse::new(name.clone(), entry.size));
                        index.insert(name, found);
                    }
                    if index.len() as u64 > options.limits.entries {
                        let problem = format!("has more than {} files", options.limits.entries);
                        return Err(SourceError::NotAnImage { path: path.to_owned(), problem });
                    }
                }
                _ => {}
            }
        }
        position += count as u64;
        // Where the pieces of a sparse file lie shows as they pass.
        if sparse.is_some() {
            continue;
        }
        let skip = reader.skippable().min(length - position);
        reader.skip(skip);
        position += skip;
    }
    reader.finish().map_err(|error| wrong(path, position, error))?;
    Ok(index)
}

/// A sparse file whose pieces are being found.
struct Sparse {
    name: LayerPath,
    pieces: Vec<Piece>,
    length: u64,
}

impl Sparse {
    fn new(name: LayerPath, length: u64) -> Self {
        Self { name, pieces: Vec::new(), length }
    }

    /// What passes comes in as many parts as it was read in.
    fn add(&mut self, piece: Piece) {
        match self.pieces.last_mut() {
            Some(last) if (last.at + last.length, last.offset + last.length) == (piece.at, piece.offset) => {
                last.length += piece.length;
            }
            _ if piece.length > 0 => self.pieces.push(piece),
            _ => {}
        }
    }
}

/// What does not begin with a header is something else, rather than a damaged archive.
fn wrong(path: &Path, position: u64, error: ArchiveError) -> SourceError {
    let path = path.to_owned();
    if position >= HEADER || !matches!(error, ArchiveError::Checksum | ArchiveError::Truncated) {
        return SourceError::Archive { path, position, error };
    }
    let problem =
        "is not an image: neither a tar archive, compressed or not, nor the directory of an OCI layout".to_owned();
    SourceError::NotAnImage { path, problem }
}

/// Where a symlink in an archive leads, from the directory that it is in.
fn link(name: &[u8], target: &[u8]) -> Found {
    let directory = name.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |slash| &name[..slash]);
    let whole = if target.starts_with(b"/") { target.to_vec() } else { [directory, b"/", target].concat() };
    LayerPath::normalise(&whole).map_or(Found::Other, Found::Link)
}
