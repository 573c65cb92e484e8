//! From what a directory must hold to the entries of an archive: sorted by path, every inode's content once, at the
//! first of its names. A layer's archive has whiteouts; a flat one has none to have.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use hashbrown::HashMap;

use crate::core::record::{Attributes, ChangeKind, LayerPath, Record};
use crate::core::stack::{Difference, Emission, InodeId, Stack, What};
use crate::core::tar::{Entry, EntryKind, Writer};
use crate::core::text::Timestamp;
use crate::image::{Image, chain_ids};
use crate::unpack::extract::read_contents;
use crate::unpack::stage::Contents;
use crate::unpack::{Error, LayerReport, Losses, Options, Progress, diff_ids};

/// An image's layers, read: their records, and the contents of their files.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) records: Vec<Record>,
    pub(crate) contents: Vec<Option<Contents>>,
    pub(crate) layers: Vec<LayerReport>,
    pub(crate) losses: Losses,
}

impl Spooled {
    /// Reads all layers. The contents of those that `is_wanted` names are kept in `directory`, in files without a name.
    pub(crate) fn read(
        image: &Image,
        directory: &Path,
        is_wanted: &(dyn Fn(usize) -> bool + Sync),
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let extracted = read_contents(image, directory, is_wanted, options, progress)?;
        let chain_ids = chain_ids(&diff_ids(&extracted));
        let mut spooled =
            Self { records: Vec::new(), contents: Vec::new(), layers: Vec::new(), losses: Losses::default() };
        for (layer, chain_id) in extracted.into_iter().zip(chain_ids) {
            let (contents, losses) = layer.kept;
            spooled.layers.push(LayerReport::of_layer(&layer.facts, &layer.record, chain_id, layer.seconds));
            spooled.records.push(layer.record);
            spooled.contents.push(contents);
            spooled.losses.merge(losses);
        }
        progress.settling();
        Ok(spooled)
    }
}

/// Whether an archive has whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// A layer: `.wh.NAME`, and `.wh..wh..opq`.
    Written,
    /// A flat tree.
    None,
}

/// Why entries cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The archive cannot be written, or the contents cannot be read again.
    #[error("{path:?}")]
    Io {
        /// The entry.
        path: LayerPath,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
    /// [`Cancel`](crate::core::cancel::Cancel) was used.
    #[error("interrupted")]
    Cancelled,
}

impl From<EntryError> for Error {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Cancelled => Self::Cancelled,
            EntryError::Io { path, error } => Self::Write { path, error: error.into() },
        }
    }
}

/// Writes all that a directory must hold as entries of an archive.
///
/// A root that no layer names is only written where it is the root of everything.
pub(crate) fn write_entries<W: Write>(
    writer: &mut Writer<W>,
    stack: &Stack<'_>,
    difference: &Difference,
    contents: &[Option<Contents>],
    marks: Marks,
    options: &Options,
) -> Result<(), EntryError> {
    let mut entries =
        Entries { writer, stack, contents, selinux: options.selinux, first_names: HashMap::new(), buffer: Vec::new() };
    for (index, emission) in difference.emissions().iter().enumerate() {
        if options.cancel.is_cancelled() {
            return Err(EntryError::Cancelled);
        }
        let path = stack.path(difference, index);
        let result = match (emission.what, marks) {
            // No layer says anything of it. What the root hides it hides name by name (rule O3).
            (What::Directory { changed: false, .. }, Marks::Written) if index == 0 => Ok(()),
            (What::Directory { .. }, _) => entries.directory(&path, emission, marks),
            (What::Leaf(inode), _) => entries.leaf(&path, inode),
            (What::Whiteout, Marks::Written) => {
                let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
                entries.mark(&parent, stack.name(emission))
            }
            (What::Whiteout, Marks::None) => Ok(()),
        };
        result.map_err(|error| EntryError::Io { path, error })?;
    }
    Ok(())
}

/// The layers whose files' contents are needed for these differences and were not kept.
pub(crate) fn needed_contents<'d>(
    stack: &Stack<'_>,
    differences: impl Iterator<Item = &'d Difference>,
    contents: &[Option<Contents>],
) -> BTreeSet<usize> {
    let mut missing = BTreeSet::new();
    for emission in differences.flat_map(Difference::emissions) {
        if let What::Leaf(inode) = emission.what {
            let (layer, change) = stack.origin(inode);
            let has_content = matches!(change.kind, ChangeKind::File { .. } | ChangeKind::LinkSource { .. });
            if has_content && contents.get(layer).is_none_or(Option::is_none) {
                missing.insert(layer);
            }
        }
    }
    missing
}

struct Entries<'a, 'r, W> {
    writer: &'a mut Writer<W>,
    stack: &'a Stack<'r>,
    contents: &'a [Option<Contents>],
    /// Whether `security.selinux` is written (rule A3).
    selinux: bool,
    /// Of files with several names: the one that has the content.
    first_names: HashMap<InodeId, Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Entries<'_, '_, W> {
    fn directory(&mut self, path: &LayerPath, emission: &Emission, marks: Marks) -> io::Result<()> {
        let What::Directory { attributes, opaque, .. } = emission.what else {
            return Ok(());
        };
        let name = if path.is_root() { b"./".to_vec() } else { [path.as_bytes(), b"/"].concat() };
        let mut entry = self.stack.directory_attributes(attributes).to_entry(EntryKind::Directory, name);
        self.drop_label(&mut entry);
        self.writer.entry(&entry, &[])?;
        self.writer.end_of_entry()?;
        if opaque && marks == Marks::Written {
            self.mark(path, b".wh..opq")?;
        }
        Ok(())
    }

    fn leaf(&mut self, path: &LayerPath, inode: InodeId) -> io::Result<()> {
        let (layer, change) = self.stack.origin(inode);
        let name = path.as_bytes().to_vec();
        let Some(mut entry) = change.kind.to_entry(name.clone()) else {
            return Ok(());
        };
        self.drop_label(&mut entry);
        if let Some(first) = self.first_names.get(&inode) {
            // The attributes stand there once more, for readers that set them with every name. There is nothing to add
            // to them.
            entry = Entry {
                kind: EntryKind::HardLink,
                link_name: first.clone(),
                size: 0,
                device: (0, 0),
                records: Vec::new(),
                ..entry
            };
            self.writer.entry(&entry, &[])?;
            return self.writer.end_of_entry();
        }
        if self.stack.is_linked(inode) {
            self.first_names.insert(inode, name);
        }
        let (ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. }) = change.kind else {
            self.writer.entry(&entry, &[])?;
            return self.writer.end_of_entry();
        };
        let contents = self.contents.get(layer).and_then(Option::as_ref);
        let contents = contents.ok_or_else(|| io::Error::other("the content of its layer was not kept"))?;
        self.writer.entry(&entry, contents.fragments(content))?;
        let writer = &mut *self.writer;
        contents.read(content, &mut self.buffer, |offset, bytes| writer.data(offset, bytes))?;
        self.writer.end_of_entry()
    }

    /// A label is for the system that the image was made on, unless it is asked for (rule A3).
    fn drop_label(&self, entry: &mut Entry) {
        if !self.selinux {
            entry.records.retain(|(record, _)| record != b"SCHILY.xattr.security.selinux");
        }
    }

    /// `.wh.` and the rest of a whiteout's name, in a directory.
    fn mark(&mut self, directory: &LayerPath, name: &[u8]) -> io::Result<()> {
        let name = [b".wh.", name].concat();
        let path = LayerPath::of_components(directory.components().chain([name.as_slice()]));
        self.writer.entry(&mark(path.as_bytes().to_vec()), &[])?;
        self.writer.end_of_entry()
    }
}

/// The entry of a whiteout: an empty file, of which only the name counts.
pub(crate) fn mark(name: Vec<u8>) -> Entry {
    let attributes = Attributes { mode: 0o600, mtime: Timestamp::default(), ..Attributes::of_unnamed_directory() };
    attributes.to_entry(EntryKind::File, name)
}
