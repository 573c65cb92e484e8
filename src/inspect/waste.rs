//! Bytes that an image ships but does not show: replaced, deleted, or the same as another file's.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use super::{Pattern, Traced};
use crate::core::record::{ChangeKind, LayerPath};
use crate::core::stack::{Event, InodeId, Node};

/// Wasted space in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waste {
    /// For each layer that has regular files, the one that wastes most first.
    pub layers: Vec<LayerWaste>,
    /// Each file, the largest first.
    pub files: Vec<WastedFile>,
}

/// Wasted space in one layer. All sizes are bytes of content, before compression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LayerWaste {
    /// The layer, from 0 at the bottom.
    pub layer: usize,
    /// All content that it ships.
    pub shipped: u64,
    /// Of this, what is not needed: the sum of the following.
    pub wasted: u64,
    /// Content of files that layers above, or later entries of the layer, replace.
    pub replaced: u64,
    /// Content of files that layers above delete.
    pub deleted: u64,
    /// Content that another file that is shown has, too.
    pub duplicated: u64,
    /// Files with such content.
    pub files: u64,
    /// The history's line for the layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// One file that is shipped but not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WastedFile {
    /// Bytes of content that the archive has of it; holes have none.
    pub bytes: u64,
    /// The layer that ships it, from 0 at the bottom.
    pub layer: usize,
    /// Where it is, or was last.
    pub path: LayerPath,
    /// Why it is not needed.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Why a file is shipped but not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// A layer has something else there.
    Replaced {
        /// Which; the file's own layer, where a later entry has the same name.
        by: usize,
    },
    /// A layer hides it.
    Deleted {
        /// Which.
        by: usize,
    },
    /// A file that is shown as well has the same content, and is not the same inode.
    Duplicated {
        /// The other file.
        of: LayerPath,
    },
}

/// What one layer ships in vain in one directory, for one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WastedDirectory {
    /// The directory. Where all of a tree was deleted at once, its top.
    pub directory: LayerPath,
    /// The layer that ships it, from 0 at the bottom.
    pub layer: usize,
    /// Bytes of content.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// Why.
    pub cause: Cause,
}

/// Why several files are shipped but not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A layer has something else there.
    Replaced {
        /// Which.
        by: usize,
    },
    /// A layer hides them.
    Deleted {
        /// Which.
        by: usize,
    },
    /// Files that are shown as well have the same content.
    Duplicated,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced { by } => write!(formatter, "replaced by layer {by}"),
            Self::Deleted { by } => write!(formatter, "deleted by layer {by}"),
            Self::Duplicated => formatter.write_str("same content as another file"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced { by } => write!(formatter, "replaced by layer {by}"),
            Self::Deleted { by } => write!(formatter, "deleted by layer {by}"),
            Self::Duplicated { of } => write!(formatter, "same as {of}"),
        }
    }
}

impl Waste {
    /// All content that the image ships.
    pub fn shipped(&self) -> u64 {
        self.layers.iter().map(|layer| layer.shipped).sum()
    }

    /// Of this, what is not needed.
    pub fn wasted(&self) -> u64 {
        self.layers.iter().map(|layer| layer.wasted).sum()
    }
}

impl Traced<'_> {
    /// Bytes that the image ships for nothing. A file with several names counts once; one that `ignored` matches does not count.
    pub fn waste(&self, ignored: Option<&Pattern>) -> Waste {
        let visible = self.inside.visible();
        let mut lost: HashMap<InodeId, (LayerPath, &Event)> = HashMap::new();
        for event in &self.events {
            if let Some(inode) = event.lost() {
                let path = self.inside.stack.place(event);
                // Of several names the last one, by layer and path.
                if lost.get(&inode).is_none_or(|(known, last)| (last.layer, known) < (event.layer, &path)) {
                    lost.insert(inode, (path, event));
                }
            }
        }
        let mut files = Vec::new();
        let mut shipped = vec![0; self.inside.indexes.records.len()];
        let mut shown: Vec<(InodeId, &LayerPath)> = Vec::new();
        for inode in self.inside.stack.inodes() {
            let Some((layer, _, content)) = self.inside.content(inode) else { continue };
            shipped[layer] += content.stored;
            if let Some(name) = visible.get(&inode).and_then(|names| names.first()) {
                shown.push((inode, name));
                continue;
            }
            let (path, reason) = match lost.get(&inode) {
                Some((path, event)) if event.now.is_some() => (path.clone(), Reason::Replaced { by: event.layer }),
                Some((path, event)) => (path.clone(), Reason::Deleted { by: event.layer }),
                None => {
                    let change = self.inside.stack.origin(inode).1;
                    let path = self.inside.indexes.records[layer].names.path(change.name);
                    let unused = matches!(change.kind, ChangeKind::LinkSource { .. });
                    let by = layer;
                    (path, if unused { Reason::Deleted { by } } else { Reason::Replaced { by } })
                }
            };
            files.push(WastedFile { bytes: content.stored, layer, path, reason });
        }
        files.extend(self.duplicates(shown));
        files.retain(|file| file.bytes > 0 && ignored.is_none_or(|ignored| !ignored.matches(&file.path)));
        files.sort_by(|one, other| (other.bytes, one.layer, &one.path).cmp(&(one.bytes, other.layer, &other.path)));
        Waste { layers: self.by_layer(&shipped, &files), files }
    }

    /// The same by directory and cause, what wastes most first.
    pub fn by_directory(&self, waste: &Waste) -> Vec<WastedDirectory> {
        let deleted = |event: &&Event| event.now.is_none() && matches!(event.before, Some(Node::Directory { .. }));
        let places = self.events.iter().filter(deleted).map(|event| (event.layer, self.inside.stack.place(event)));
        let deleted: HashSet<(usize, LayerPath)> = places.collect();
        let mut lines: BTreeMap<(LayerPath, usize, Cause), WastedDirectory> = BTreeMap::new();
        for file in &waste.files {
            let (mut directory, layer) = (parent(&file.path), file.layer);
            let cause = match file.reason {
                Reason::Replaced { by } => Cause::Replaced { by },
                Reason::Deleted { by } => Cause::Deleted { by },
                Reason::Duplicated { .. } => Cause::Duplicated,
            };
            if let Cause::Deleted { by } = cause {
                while !directory.is_root() && deleted.contains(&(by, parent(&directory))) {
                    directory = parent(&directory);
                }
            }
            let line = lines.entry((directory.clone(), layer, cause)).or_insert_with(|| WastedDirectory {
                directory,
                layer,
                bytes: 0,
                files: 0,
                cause,
            });
            line.bytes += file.bytes;
            line.files += 1;
        }
        let mut lines: Vec<WastedDirectory> = lines.into_values().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
        lines
    }

    /// All but the first of the files that are shown and have the same content. The first is the one in the lowest
    /// layer.
    fn duplicates(&self, mut shown: Vec<(InodeId, &LayerPath)>) -> Vec<WastedFile> {
        shown.sort_by_key(|&(inode, path)| (self.inside.stack.origin(inode).0, path));
        let mut first = HashMap::new();
        let mut files = Vec::new();
        for (inode, path) in shown {
            let Some((layer, _, content)) = self.inside.content(inode) else { continue };
            match first.get(&content.identity()) {
                None => drop(first.insert(content.identity(), path)),
                Some(&of) => {
                    let reason = Reason::Duplicated { of: of.clone() };
                    files.push(WastedFile { bytes: content.stored, layer, path: path.clone(), reason });
                }
            }
        }
        files
    }

    fn by_layer(&self, shipped: &[u64], files: &[WastedFile]) -> Vec<LayerWaste> {
        let created_by = self.inside.image.created_by();
        let mut layers: Vec<LayerWaste> = shipped
            .iter()
            .enumerate()
            .map(|(layer, &shipped)| {
                let created_by = created_by.get(layer).cloned().flatten();
                LayerWaste { layer, shipped, created_by, ..LayerWaste::default() }
            })
            .collect();
        for file in files {
            let layer = &mut layers[file.layer];
            layer.wasted += file.bytes;
            layer.files += 1;
            match file.reason {
                Reason::Replaced { .. } => layer.replaced += file.bytes,
                Reason::Deleted { .. } => layer.deleted += file.bytes,
                Reason::Duplicated { .. } => layer.duplicated += file.bytes,
            }
        }
        layers.sort_by_key(|layer| (std::cmp::Reverse(layer.wasted), layer.layer));
        layers
    }
}

/// The directory that something is in.
fn parent(path: &LayerPath) -> LayerPath {
    path.split_last().map_or_else(LayerPath::root, |(directory, _)| directory)
}
