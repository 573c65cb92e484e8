//! From what a directory must hold to the entries of an archive, sorted by path. A layer's archive has whiteouts; a flat
//! one has none to have.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use crate::core::layer::{LayerWriter, Special, WriteError, WriteOptions};
use crate::core::record::{Attributes, ChangeKind, LayerPath, Record};
use crate::core::stack::{Difference, InodeId, Stack, What};
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
pub(crate) enum Whiteouts {
    /// A layer: `.wh.NAME`, and `.wh..wh..opq`.
    Written,
    /// A flat tree.
    None,
}

/// What becomes of a file's attributes, or of its path, on the way into an archive. Without a path it is left out.
pub(crate) struct Change<'c> {
    pub(crate) path: &'c dyn Fn(LayerPath) -> Option<LayerPath>,
    pub(crate) attributes: &'c dyn Fn(&What, &Attributes) -> Attributes,
}

/// Writes all that a directory must hold as the archive of a layer or of a tree.
///
/// A root that no layer names is only written where it is the root of everything.
pub(crate) fn write_entries<W: Write>(
    output: W,
    stack: &Stack<'_>,
    difference: &Difference,
    contents: &[Option<Contents>],
    whiteouts: Whiteouts,
    options: &Options,
) -> Result<LayerWriter<W, InodeId>, WriteError> {
    write_changed(output, stack, difference, contents, (whiteouts, None), options)
}

/// The same, with paths and attributes changed.
pub(crate) fn write_changed<W: Write>(
    output: W,
    stack: &Stack<'_>,
    difference: &Difference,
    contents: &[Option<Contents>],
    (whiteouts, change): (Whiteouts, Option<&Change<'_>>),
    options: &Options,
) -> Result<LayerWriter<W, InodeId>, WriteError> {
    let options = WriteOptions { selinux: options.selinux, cancel: options.cancel.clone() };
    let mut writer = LayerWriter::new(output, options);
    for (index, entry) in difference.entries().iter().enumerate() {
        let path = stack.path(difference, index);
        let path = match change {
            None => path,
            Some(change) => match (change.path)(path) {
                Some(path) => path,
                None => continue,
            },
        };
        match (entry.what, whiteouts) {
            // No layer says anything of it. What the root hides it hides name by name (rule O3).
            (What::Directory { changed: false, .. }, Whiteouts::Written) if index == 0 => {}
            (What::Directory { attributes, opaque, .. }, _) => {
                let attributes = stack.directory_attributes(attributes);
                writer.directory(&path, &changed(change, &entry.what, &attributes))?;
                if opaque && whiteouts == Whiteouts::Written {
                    writer.opaque(&path)?;
                }
            }
            (What::Leaf(inode), _) => leaf(&mut writer, &path, (stack, inode), contents, change)?,
            (What::Whiteout, Whiteouts::Written) => writer.whiteout(&path)?,
            (What::Whiteout, Whiteouts::None) => {}
        }
    }
    Ok(writer)
}

fn changed<'a>(change: Option<&Change<'_>>, what: &What, attributes: &'a Attributes) -> Cow<'a, Attributes> {
    match change {
        Some(change) => Cow::Owned((change.attributes)(what, attributes)),
        None => Cow::Borrowed(attributes),
    }
}

fn leaf<W: Write>(
    writer: &mut LayerWriter<W, InodeId>,
    path: &LayerPath,
    (stack, inode): (&Stack<'_>, InodeId),
    contents: &[Option<Contents>],
    changes: Option<&Change<'_>>,
) -> Result<(), WriteError> {
    let origin = inode;
    let (layer, change) = stack.origin(inode);
    let inode = stack.is_linked(inode).then_some(inode);
    let (special, attributes) = match &change.kind {
        ChangeKind::File { attributes, size, content } | ChangeKind::LinkSource { attributes, size, content } => {
            let open = || match of_layer(contents, layer) {
                Ok(contents) => Ok(contents.of(*content)),
                Err(error) => Err(WriteError::Io { path: path.clone(), error }),
            };
            return writer.file(path, &changed(changes, &What::Leaf(origin), attributes), *size, inode, open);
        }
        ChangeKind::Symlink { attributes, target } => (Special::Symlink(target), attributes),
        ChangeKind::Device { attributes, kind, major, minor } => (Special::Device(*kind, *major, *minor), attributes),
        ChangeKind::Fifo(attributes) => (Special::Fifo, attributes),
        ChangeKind::Whiteout | ChangeKind::Opaque | ChangeKind::Directory(_) | ChangeKind::HardLink { .. } => {
            return Ok(());
        }
    };
    writer.special(path, &changed(changes, &What::Leaf(origin), attributes), special, inode)
}

/// The spooled contents of a layer.
pub(super) fn of_layer(contents: &[Option<Contents>], layer: usize) -> io::Result<&Contents> {
    let contents = contents.get(layer).and_then(Option::as_ref);
    contents.ok_or_else(|| io::Error::other("the content of its layer was not kept"))
}

/// The layers whose files' contents are needed for these differences and were not kept.
pub(crate) fn needed_contents<'d>(
    stack: &Stack<'_>,
    differences: impl Iterator<Item = &'d Difference>,
    contents: &[Option<Contents>],
) -> BTreeSet<usize> {
    let mut missing = BTreeSet::new();
    for entry in differences.flat_map(Difference::entries) {
        if let What::Leaf(inode) = entry.what {
            let (layer, change) = stack.origin(inode);
            let has_content = matches!(change.kind, ChangeKind::File { .. } | ChangeKind::LinkSource { .. });
            if has_content && contents.get(layer).is_none_or(Option::is_none) {
                missing.insert(layer);
            }
        }
    }
    missing
}
