//! Files of a tree as entries of a layer.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use hashbrown::HashMap;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::below::Source;
use super::error::PackError;
use super::marks::Marks;
use super::{Meaning, PackOptions, PackReport};
use crate::compare::{self, Kind, Snapshot};
use crate::core::record::{Attributes, LayerPath, Xattrs};
use crate::core::tar::{Entry, EntryKind, Fragment, Writer};
use crate::export::mark;
use crate::unpack::{LossKind, Losses};

const CHUNK: usize = 256 << 10;

/// A layer in the making.
pub(super) struct LayerWriter<'a, W: Write> {
    writer: Writer<W>,
    trees: &'a [Snapshot],
    /// Overlayfs' words, to be taken out; in a whole tree they are data.
    marks: Option<Marks>,
    options: &'a PackOptions,
    /// The path at which an inode's content was written; a whole tree has no other.
    first_names: HashMap<(usize, (u64, u64)), Vec<u8>>,
    buffer: Vec<u8>,
    losses: Losses,
    entries: u64,
    hiding: u64,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    pub(super) fn new(output: W, trees: &'a [Snapshot], marks: Option<Marks>, options: &'a PackOptions) -> Self {
        Self {
            writer: Writer::new(output),
            trees,
            marks,
            options,
            first_names: HashMap::new(),
            buffer: vec![0; CHUNK],
            losses: Losses::default(),
            entries: 0,
            hiding: 0,
        }
    }

    pub(super) fn finish(self, meaning: Meaning) -> Result<PackReport, PackError> {
        self.writer.finish().map_err(|error| PackError::Io { path: LayerPath::root(), error })?;
        Ok(PackReport { meaning, entries: self.entries, marks: self.hiding, not_kept: self.losses.into_list() })
    }

    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<(), PackError> {
        let path = layer_path(path)?;
        let Some((directory, name)) = path.split_last() else {
            return Ok(());
        };
        if self.options.filter.excludes(&path) {
            return Ok(());
        }
        self.mark(&directory, name)
    }

    pub(super) fn opaque(&mut self, directory: &[u8]) -> Result<(), PackError> {
        let directory = layer_path(directory)?;
        if self.options.filter.excludes(&directory) {
            return Ok(());
        }
        self.mark(&directory, b".wh..opq")
    }

    fn mark(&mut self, directory: &LayerPath, name: &[u8]) -> Result<(), PackError> {
        let name = [b".wh.", name].concat();
        let path = LayerPath::of_components(directory.components().chain([name.as_slice()]));
        self.hiding += 1;
        self.write(&path, &mark(path.as_bytes().to_vec()))
    }

    pub(super) fn directory(&mut self, path: &[u8], source: Source) -> Result<(), PackError> {
        let name = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        let path = layer_path(path)?;
        if self.options.filter.excludes(&path) {
            return Ok(());
        }
        let tree = &self.trees[source.tree];
        let entry = tree.entry(source.node);
        let attributes = self.attributes(entry);
        self.write(&path, &attributes.to_entry(EntryKind::Directory, name))
    }

    /// Writes a file that is not a directory, with the data of another one where its own is there.
    pub(super) fn leaf(&mut self, path: &[u8], source: Source, data: Source) -> Result<(), PackError> {
        let name = path.to_vec();
        let path = layer_path(path)?;
        if self.options.filter.excludes(&path) {
            return Ok(());
        }
        let found = self.trees[source.tree].entry(source.node);
        let kind = match &found.kind {
            Kind::Socket => {
                self.losses.add(LossKind::Socket, "", || path);
                return Ok(());
            }
            Kind::Ghost | Kind::Directory => return Ok(()),
            Kind::File { .. } => EntryKind::File,
            Kind::Symlink { .. } => EntryKind::Symlink,
            Kind::CharacterDevice(..) => EntryKind::CharacterDevice,
            Kind::BlockDevice(..) => EntryKind::BlockDevice,
            Kind::Fifo => EntryKind::Fifo,
        };
        let attributes = self.attributes(found);
        let mut entry = attributes.to_entry(kind, name.clone());
        if let Some(first) = self.first_names.get(&(source.tree, found.inode)) {
            entry = Entry { kind: EntryKind::HardLink, link_name: first.clone(), records: Vec::new(), ..entry };
            return self.write(&path, &entry);
        }
        self.first_names.insert((source.tree, found.inode), name);
        match &found.kind {
            Kind::Symlink { target } => entry.link_name = target.to_vec(),
            Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                entry.device = ((*major).into(), (*minor).into());
            }
            _ => {}
        }
        if kind != EntryKind::File {
            return self.write(&path, &entry);
        }
        let tree = &self.trees[data.tree];
        if let Kind::File { size } = tree.entry(data.node).kind {
            entry.size = size;
        }
        let file = tree.open_file(data.node)?;
        self.file(&entry, &file).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => PackError::Cancelled,
            _ => PackError::Io { path, error },
        })?;
        self.entries += 1;
        Ok(())
    }

    fn attributes(&self, entry: &compare::Entry) -> Attributes {
        let xattrs = match self.marks {
            Some(marks) => marks.cleaned(&entry.xattrs),
            None => entry.xattrs.clone(),
        };
        let kept: Xattrs =
            xattrs.iter().filter(|(name, _)| self.options.selinux || *name != b"security.selinux").collect();
        let mut attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            atime: entry.mtime,
            xattrs: kept,
        };
        let _ = self.options.filter.change(&mut attributes);
        attributes
    }

    fn write(&mut self, path: &LayerPath, entry: &Entry) -> Result<(), PackError> {
        if self.options.cancel.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        self.entries += 1;
        let written = self.writer.entry(entry, &[]).and_then(|()| self.writer.end_of_entry());
        written.map_err(|error| PackError::Io { path: path.clone(), error })
    }

    fn file(&mut self, entry: &Entry, file: &File) -> io::Result<()> {
        let fragments = fragments(file, entry.size)?;
        self.writer.entry(entry, &fragments)?;
        for fragment in fragments {
            let mut done = 0;
            while done < fragment.length {
                if self.options.cancel.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let length = usize::try_from(fragment.length - done).unwrap_or(CHUNK).min(CHUNK);
                let piece = &mut self.buffer[..length];
                file.read_exact_at(piece, fragment.offset + done).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => io::Error::other("it became shorter while it was read"),
                    _ => error,
                })?;
                self.writer.data(fragment.offset + done, piece)?;
                done += length as u64;
            }
        }
        self.writer.end_of_entry()
    }
}

/// The parts of a file that are no holes; all of it, where the file system does not say.
fn fragments(file: &File, size: u64) -> io::Result<Vec<Fragment>> {
    let mut fragments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(vec![Fragment { offset: 0, length: size }]),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= size {
            break;
        }
        fragments.push(Fragment { offset: start, length: end - start });
        at = end;
    }
    Ok(fragments)
}

/// A path of a tree on disk: it cannot climb, but it may be a whiteout's.
fn layer_path(path: &[u8]) -> Result<LayerPath, PackError> {
    let path = LayerPath::of_components(path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()));
    match path.split_last() {
        Some((_, name)) if name.starts_with(b".wh.") => Err(PackError::NameOfMark(path)),
        _ => Ok(path),
    }
}
