//! All names of one layer, each path stored once, as a tree of components.
//!
//! A layer may have a million entries; a path of fifty bytes for each, kept several times, would be most of the
//! program's memory. Here a path is a number, its components are stored once, and walking to the parent is an index.

mod stored;

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

use super::LayerPath;

/// A path of one layer, as an index into its [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameId(u32);

impl NameId {
    /// The root of every layer.
    pub const ROOT: Self = Self(0);

    /// For tables with a row for each name.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The paths that a layer mentions, and all their parents. A parent always has a smaller index than its children.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "stored::Flat")]
pub struct Names {
    nodes: Vec<Node>,
    bytes: Vec<u8>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    start: u32,
    length: u8,
}

impl Names {
    /// Only the root.
    pub fn new() -> Self {
        Self { nodes: vec![Node { parent: 0, start: 0, length: 0 }], ..Self::default() }
    }

    /// How many names there are, the root counted.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of all names, each component once.
    pub(crate) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Never: the root is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The child `name` of `parent`; made if it is not there. `None` when four gibibytes of names are used up.
    pub fn intern(&mut self, parent: NameId, name: &[u8]) -> Option<NameId> {
        let hash = self.hasher.hash_one((parent.0, name));
        if let Some(known) = self.find(hash, parent, name) {
            return Some(known);
        }
        let node = Node {
            parent: parent.0,
            start: u32::try_from(self.bytes.len()).ok()?,
            length: u8::try_from(name.len()).ok()?,
        };
        let id = u32::try_from(self.nodes.len()).ok()?;
        self.bytes.extend_from_slice(name);
        self.nodes.push(node);
        let Self { nodes, bytes, table, hasher } = self;
        table.insert_unique(hash, id, |&other| {
            let node = nodes[other as usize];
            hasher.hash_one((node.parent, slice(bytes, node)))
        });
        Some(NameId(id))
    }

    /// The name of a whole path, made with all its parents.
    pub fn intern_path(&mut self, path: &LayerPath) -> Option<NameId> {
        path.components().try_fold(NameId::ROOT, |parent, name| self.intern(parent, name))
    }

    /// The child `name` of `parent`, if the layer mentions it.
    pub fn child(&self, parent: NameId, name: &[u8]) -> Option<NameId> {
        self.find(self.hasher.hash_one((parent.0, name)), parent, name)
    }

    fn find(&self, hash: u64, parent: NameId, name: &[u8]) -> Option<NameId> {
        let same = |&id: &u32| {
            let node = self.nodes[id as usize];
            node.parent == parent.0 && slice(&self.bytes, node) == name
        };
        self.table.find(hash, same).map(|&id| NameId(id))
    }

    /// The last component; empty for the root.
    pub fn name(&self, id: NameId) -> &[u8] {
        slice(&self.bytes, self.nodes[id.index()])
    }

    /// The directory that holds a name; the root holds itself.
    pub fn parent(&self, id: NameId) -> NameId {
        NameId(self.nodes[id.index()].parent)
    }

    /// The components from the last one up to the root's child.
    pub fn ascend(&self, id: NameId) -> impl Iterator<Item = &[u8]> {
        let mut at = id;
        std::iter::from_fn(move || {
            let name = (at != NameId::ROOT).then(|| self.name(at));
            at = self.parent(at);
            name
        })
    }

    /// The whole path.
    pub fn path(&self, id: NameId) -> LayerPath {
        LayerPath::of_components(self.ascend(id).collect::<Vec<_>>().into_iter().rev())
    }

    /// All names, parents before their children.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NameId> + use<> {
        (0..self.nodes.len() as u32).map(NameId)
    }
}

fn slice(bytes: &[u8], node: Node) -> &[u8] {
    &bytes[node.start as usize..][..usize::from(node.length)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_kept_once_with_its_parents() {
        let mut names = Names::new();
        let path = LayerPath::normalise(b"usr/lib/x").unwrap();
        let id = names.intern_path(&path).unwrap();
        assert_eq!(names.intern_path(&path), Some(id));
        assert_eq!(names.len(), 4);
        assert_eq!(names.path(id), path);
        assert_eq!(names.name(id), b"x");
        assert_eq!(names.path(names.parent(id)).as_bytes(), b"usr/lib");
        assert_eq!(names.child(NameId::ROOT, b"lib"), None);
        assert_eq!(names.parent(NameId::ROOT), NameId::ROOT);
        assert!(names.path(NameId::ROOT).is_root());
    }
}
