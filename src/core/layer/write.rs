//! Writes a layer's archive from names and attributes: the inverse of [`read_layer`](super::read_layer).
//!
//! Callers decide what is written, and in which order; how an archive says it is decided here. A directory's name ends
//! with a slash. An inode has its content at the first of its names, holes left out, and every other name is a hard
//! link to that. A whiteout is an empty file, of which only the name counts. Digests are for the output to take: a
//! [`Compressor`](crate::blob::Compressor) does.

use std::borrow::Cow;
use std::hash::Hash;
use std::io::{self, Write};

use hashbrown::HashMap;

use super::change::OPAQUE;
use crate::core::cancel::Cancel;
use crate::core::record::{Attributes, DeviceKind, LayerPath, WHITEOUT};
use crate::core::tar::{Entry, EntryKind, Fragment, Writer};

/// Bytes of content that are read and written at once.
const CHUNK: usize = 256 << 10;

/// How an archive is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Whether `security.selinux` is written. A label is for the system that the tree was made on (rule A3).
    pub selinux: bool,
    /// Stops the writing.
    pub cancel: Cancel,
}

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The archive cannot be written, or a file's content cannot be read.
    #[error("{path:?}")]
    Io {
        /// The entry.
        path: LayerPath,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
    /// [`Cancel`] was used.
    #[error("interrupted")]
    Cancelled,
}

/// The content of a regular file.
#[derive(Debug)]
pub struct Content<'a, R> {
    /// The parts that are no holes, in order and apart.
    pub fragments: Cow<'a, [Fragment]>,
    /// Fills a piece with the file's bytes from an offset on. All of every fragment is asked for, in order, each byte
    /// once.
    pub read: R,
}

/// What is neither a directory nor a regular file, and so has no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special<'a> {
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// A device node, by major and minor number.
    Device(DeviceKind, u32, u32),
    /// A named pipe.
    Fifo,
}

/// How much was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// Whiteouts, opaque ones included.
    pub whiteouts: u64,
}

/// Writes the archive of a layer, or of a whole tree. `I` is whatever tells one inode from another.
#[derive(Debug)]
pub struct LayerWriter<W, I> {
    archive: Writer<W>,
    options: WriteOptions,
    /// Of each inode: the name that has its content.
    first_names: HashMap<I, Box<[u8]>>,
    written: Written,
    buffer: Vec<u8>,
}

impl<W: Write, I: Eq + Hash> LayerWriter<W, I> {
    /// A writer at the start of an archive.
    pub fn new(output: W, options: WriteOptions) -> Self {
        let archive = Writer::new(output);
        Self { archive, options, first_names: HashMap::new(), written: Written::default(), buffer: vec![0; CHUNK] }
    }

    /// Writes a directory.
    ///
    /// # Errors
    /// The output cannot be written; so for all others.
    pub fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), WriteError> {
        let name = if path.is_root() { b"./".to_vec() } else { [path.as_bytes(), b"/"].concat() };
        let entry = self.entry(EntryKind::Directory, name, attributes);
        self.without_content(path, &entry)
    }

    /// Writes a regular file of `size` bytes, holes counted. `inode` is that of a file that may have other names;
    /// `open` is asked for the content at the first of them.
    ///
    /// # Errors
    /// Those of `open`, and a content that cannot be read to its end.
    pub fn file<'c, R, E>(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
        inode: Option<I>,
        open: impl FnOnce() -> Result<Content<'c, R>, E>,
    ) -> Result<(), E>
    where
        R: FnMut(u64, &mut [u8]) -> io::Result<()>,
        E: From<WriteError>,
    {
        let entry = Entry { size, ..self.entry(EntryKind::File, path.as_bytes().to_vec(), attributes) };
        if self.is_linked(path, &entry, inode)? {
            return Ok(());
        }
        let Content { fragments, mut read } = open()?;
        Ok(self.write(path, &entry, &fragments, &mut read)?)
    }

    /// Writes what has no content. `inode` is that of a file that may have other names.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn special(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        special: Special<'_>,
        inode: Option<I>,
    ) -> Result<(), WriteError> {
        let kind = match special {
            Special::Symlink(_) => EntryKind::Symlink,
            Special::Device(DeviceKind::Character, ..) => EntryKind::CharacterDevice,
            Special::Device(DeviceKind::Block, ..) => EntryKind::BlockDevice,
            Special::Fifo => EntryKind::Fifo,
        };
        let mut entry = self.entry(kind, path.as_bytes().to_vec(), attributes);
        if self.is_linked(path, &entry, inode)? {
            return Ok(());
        }
        match special {
            Special::Symlink(target) => entry.link_name = target.to_vec(),
            Special::Device(_, major, minor) => entry.device = (major.into(), minor.into()),
            Special::Fifo => {}
        }
        self.without_content(path, &entry)
    }

    /// Writes the whiteout that hides a path; nothing hides the root.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn whiteout(&mut self, hidden: &LayerPath) -> Result<(), WriteError> {
        match hidden.split_last() {
            Some((directory, name)) => self.hide(&directory, &[WHITEOUT, name].concat()),
            None => Ok(()),
        }
    }

    /// Writes the whiteout that makes a directory opaque.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn opaque(&mut self, directory: &LayerPath) -> Result<(), WriteError> {
        self.hide(directory, OPAQUE)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(self) -> io::Result<(W, Written)> {
        Ok((self.archive.finish()?, self.written))
    }

    fn hide(&mut self, directory: &LayerPath, name: &[u8]) -> Result<(), WriteError> {
        let path = LayerPath::of_components(directory.components().chain([name]));
        let attributes = Attributes { mode: 0o600, ..Attributes::of_unnamed_directory() };
        self.written.whiteouts += 1;
        self.without_content(&path, &attributes.to_entry(EntryKind::File, path.as_bytes().to_vec()))
    }

    fn entry(&self, kind: EntryKind, name: Vec<u8>, attributes: &Attributes) -> Entry {
        let mut entry = attributes.to_entry(kind, name);
        if !self.options.selinux {
            entry.records.retain(|(record, _)| record != b"SCHILY.xattr.security.selinux");
        }
        entry
    }

    /// Whether the inode has its content at another name already; then this one is written as a hard link to it.
    fn is_linked(&mut self, path: &LayerPath, entry: &Entry, inode: Option<I>) -> Result<bool, WriteError> {
        let Some(inode) = inode else { return Ok(false) };
        let Some(first) = self.first_names.get(&inode) else {
            self.first_names.insert(inode, path.as_bytes().into());
            return Ok(false);
        };
        // The attributes stand there once more, for readers that set them with every name. There is nothing to add to
        // them.
        let (link_name, records) = (first.to_vec(), Vec::new());
        let link = Entry { kind: EntryKind::HardLink, link_name, size: 0, records, ..entry.clone() };
        self.without_content(path, &link)?;
        Ok(true)
    }

    fn without_content(&mut self, path: &LayerPath, entry: &Entry) -> Result<(), WriteError> {
        self.write(path, entry, &[], &mut |_, _| Ok(()))
    }

    fn write(
        &mut self,
        path: &LayerPath,
        entry: &Entry,
        fragments: &[Fragment],
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let failed = |error| WriteError::Io { path: path.clone(), error };
        let cancel = &self.options.cancel;
        let go_on = || if cancel.is_cancelled() { Err(WriteError::Cancelled) } else { Ok(()) };
        go_on()?;
        self.archive.entry(entry, fragments).map_err(failed)?;
        for fragment in fragments {
            let mut done = 0;
            while done < fragment.length {
                go_on()?;
                let length = usize::try_from(fragment.length - done).unwrap_or(CHUNK).min(CHUNK);
                let (offset, piece) = (fragment.offset + done, &mut self.buffer[..length]);
                read(offset, piece).and_then(|()| self.archive.data(offset, piece)).map_err(failed)?;
                done += length as u64;
            }
        }
        self.archive.end_of_entry().map_err(failed)?;
        self.written.entries += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::layer::{Discard, ReadOptions, read_layer};
    use crate::core::record::ChangeKind;
    use crate::core::text::Timestamp;

    fn path(name: &str) -> LayerPath {
        LayerPath::normalise(name.as_bytes()).unwrap()
    }

    /// What the reader says of an archive, a line for each entry.
    fn read(archive: &[u8]) -> Vec<String> {
        let record = read_layer(&mut &*archive, &mut Discard::default(), &ReadOptions::default(), &mut |_| ()).unwrap();
        let said = record.changes.iter().map(|change| {
            let what = match &change.kind {
                ChangeKind::Whiteout => "whiteout".to_owned(),
                ChangeKind::Opaque => "opaque".to_owned(),
                ChangeKind::Directory(attributes) => format!("directory {:o}", attributes.mode),
                ChangeKind::File { size, .. } => format!("file of {size}"),
                ChangeKind::HardLink { target } => format!("link to {}", record.names.path(*target)),
                other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_lowercase(),
            };
            format!("{}: {what}", record.names.path(change.name))
        });
        said.collect()
    }

    #[test]
    fn l1_every_name_but_the_first_is_a_link_without_content() {
        let attributes = Attributes::of_unnamed_directory();
        let mut writer = LayerWriter::new(Vec::new(), WriteOptions::default());
        let mut opened = 0;
        for name in ["a", "b"] {
            let open = || {
                opened += 1;
                let fragments = vec![Fragment { offset: 1 << 20, length: 3 }].into();
                let read = |offset, piece: &mut [u8]| {
                    assert_eq!((offset, piece.len()), (1 << 20, 3));
                    piece.copy_from_slice(b"end");
                    Ok(())
                };
                Ok::<_, WriteError>(Content { fragments, read })
            };
            writer.file(&path(name), &attributes, (1 << 20) + 3, Some(1), open).unwrap();
        }
        for name in ["c", "d"] {
            writer.special(&path(name), &attributes, Special::Symlink(b"a"), Some(2)).unwrap();
        }
        writer.special(&path("e"), &attributes, Special::Fifo, None).unwrap();
        let (archive, written) = writer.finish().unwrap();
        assert_eq!((opened, written), (1, Written { entries: 5, whiteouts: 0 }));
        assert_eq!(read(&archive), ["a: file of 1048579", "b: link to a", "c: symlink", "d: link to c", "e: fifo"]);
        assert!(archive.len() < 1 << 15, "holes are left out");
    }

    #[test]
    fn m3_whiteouts_are_read_as_they_were_meant() {
        let mut writer: LayerWriter<_, u8> = LayerWriter::new(Vec::new(), WriteOptions::default());
        writer.directory(&LayerPath::root(), &Attributes::of_unnamed_directory()).unwrap();
        writer.opaque(&path("d")).unwrap();
        writer.whiteout(&path("d/gone")).unwrap();
        writer.whiteout(&LayerPath::root()).unwrap();
        let (archive, written) = writer.finish().unwrap();
        assert_eq!(written, Written { entries: 3, whiteouts: 2 });
        assert_eq!(read(&archive), ["/: directory 755", "d: opaque", "d/gone: whiteout"]);
    }

    #[test]
    fn a3_labels_are_written_only_if_asked_for() {
        let attributes = Attributes {
            mtime: Timestamp { seconds: 1, nanoseconds: 2 },
            xattrs: [(&b"security.selinux"[..], &b"label"[..])].into_iter().collect(),
            ..Attributes::of_unnamed_directory()
        };
        for selinux in [false, true] {
            let options = WriteOptions { selinux, ..WriteOptions::default() };
            let mut writer: LayerWriter<_, u8> = LayerWriter::new(Vec::new(), options);
            writer.directory(&path("d"), &attributes).unwrap();
            let (archive, _) = writer.finish().unwrap();
            assert_eq!(archive.windows(8).any(|bytes| bytes == b"selinux="), selinux);
        }
    }

    #[test]
    fn a_stop_is_heeded() {
        let options = WriteOptions::default();
        options.cancel.cancel();
        let mut writer: LayerWriter<_, u8> = LayerWriter::new(Vec::new(), options);
        assert!(matches!(writer.whiteout(&path("a")), Err(WriteError::Cancelled)));
    }
}
