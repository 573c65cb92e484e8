//! Lower directories as the one layer that shows what they show together, for a layer on top to be replayed on.

use std::fs::File;
use std::path::PathBuf;

use hashbrown::HashMap;

use super::{Below, BelowError, Overlay, Source, take_all};
use crate::core::cancel::Cancel;
use crate::core::limits::Limits;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::{Change, ChangeKind, ContentId, DeviceKind, NameId, Record};
use crate::tree::{Snapshot, SnapshotOptions, TreeEntry, TreeError, TreeKind};

/// A label of this machine's policy, and no part of an image (rule A3).
const SELINUX: &[u8] = b"security.selinux";

/// Where the contents are of the files that lower directories show.
#[derive(Debug)]
pub(crate) struct Lower {
    trees: Vec<Snapshot>,
    contents: Vec<Source>,
}

impl Lower {
    /// Reads lower directories, the topmost first, with their whiteouts in this namespace. The record says what they
    /// show together as a layer with nothing below would; there is nothing in it if there are no directories.
    pub(crate) fn read(
        directories: &[PathBuf],
        namespace: XattrNamespace,
        limits: &Limits,
        cancel: &Cancel,
    ) -> Result<(Record, Self), BelowError> {
        let options = SnapshotOptions { cancel: cancel.clone(), ..SnapshotOptions::default() };
        let trees = take_all(Vec::new(), directories, &options, limits)?;
        let overlay = Overlay::new(namespace);
        let below = Below::new(&trees, 0, overlay)?;
        let (record, contents) = record(&below, &trees, overlay)?;
        Ok((record, Self { trees, contents }))
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, content: ContentId) -> Result<File, TreeError> {
        let source = self.contents[content.0 as usize];
        self.trees[source.tree].open_file(source.node)
    }
}

/// What is shown, as changes of a layer, and where their contents are.
fn record(below: &Below<'_>, trees: &[Snapshot], overlay: Overlay) -> Result<(Record, Vec<Source>), BelowError> {
    let mut record = Record::default();
    let mut contents: Vec<Source> = Vec::new();
    // An inode is a tree, and what it is in that. Of two layers' files none are the same to who looks at the mount.
    let mut first_names: HashMap<(usize, (u64, u64)), NameId> = HashMap::new();
    let mut waiting: Vec<_> = below.root().map(|root| (NameId::ROOT, root)).into_iter().collect();
    while let Some((name, id)) = waiting.pop() {
        let shown = below.get(id);
        let entry = trees[shown.source.tree].entry(shown.source.node);
        for (child, &id) in shown.children.iter().flatten() {
            let child = record.names.intern(name, child).ok_or(BelowError::TooManyNames)?;
            waiting.push((child, id));
        }
        if entry.kind == TreeKind::Ghost {
            continue;
        }
        let is_directory = entry.kind == TreeKind::Directory;
        let first = *first_names.entry((shown.source.tree, entry.inode)).or_insert(name);
        let kind = if first != name && !is_directory {
            ChangeKind::HardLink { target: first }
        } else {
            let data = trees[shown.data.tree].entry(shown.data.node);
            let kind = kind(overlay, entry, data, ContentId(contents.len() as u32));
            if matches!(kind, ChangeKind::File { .. }) {
                contents.push(shown.data);
            }
            kind
        };
        record.changes.push(Change { name, kind });
    }
    Ok((record, contents))
}

/// What a layer says of such a file, whose content is that of `data`.
fn kind(overlay: Overlay, entry: &TreeEntry, data: &TreeEntry, content: ContentId) -> ChangeKind {
    let is_device = overlay.is_nested_whiteout(entry);
    let is_own = |name: &[u8]| name == SELINUX || (is_device && overlay.is_whiteout_mark(name));
    let cleaned = overlay.cleaned(&entry.xattrs);
    let attributes = entry.attributes(cleaned.iter().filter(|(name, _)| !is_own(name)).collect());
    let device = |kind, major, minor, attributes| ChangeKind::Device { attributes, kind, major, minor };
    match &entry.kind {
        TreeKind::Directory => ChangeKind::Directory(attributes),
        TreeKind::File { .. } if is_device => device(DeviceKind::Character, 0, 0, attributes),
        TreeKind::File { size } => {
            let size = if let TreeKind::File { size } = data.kind { size } else { *size };
            ChangeKind::File { attributes, size, content }
        }
        TreeKind::Symlink { target } => ChangeKind::Symlink { attributes, target: target.clone() },
        &TreeKind::CharacterDevice(major, minor) => device(DeviceKind::Character, major, minor, attributes),
        &TreeKind::BlockDevice(major, minor) => device(DeviceKind::Block, major, minor, attributes),
        // No layer has a socket. What matters is that something is there for a whiteout to delete.
        TreeKind::Fifo | TreeKind::Socket | TreeKind::Ghost => ChangeKind::Fifo(attributes),
    }
}
