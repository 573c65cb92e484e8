//! What the lower directories of an overlay show together, read from disk and merged as overlayfs merges them.
//!
//! A directory of changes is only understood with what is below it: where it refers to a file there (redirect,
//! metacopy), and where a layer is to be put on it that was not unpacked yet ([`Lower`]).

mod lower;
mod overlay;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::core::limits::{Exceeded, Limits};
use crate::core::record::LayerPath;
use crate::tree::{NodeId, ROOT, Snapshot, SnapshotOptions, TreeError, TreeKind};

pub(crate) use lower::Lower;
pub(crate) use overlay::{Overlay, Redirect};

/// Why what lies below cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BelowError {
    /// A tree that cannot be read whole.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file that holds attributes only, and no data below.
    #[error("{0:?} has only attributes (metacopy), but none of the lower directories has its data")]
    MetacopyMissing(LayerPath),
    /// More than four thousand million names, or four gibibytes of them.
    #[error("the lower directories have more names than can be counted")]
    TooManyNames,
    /// More files than there may be.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was too much.
        what: &'static str,
        /// The most there may be.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
}

impl From<Exceeded> for BelowError {
    fn from((what, limit, name): Exceeded) -> Self {
        Self::Limit { what, limit, name }
    }
}

/// Takes the indexes of directories, with those that are there already, as long as they need no more memory than they may.
pub(crate) fn take_all(
    mut trees: Vec<Snapshot>,
    directories: &[PathBuf],
    options: &SnapshotOptions,
    limits: &Limits,
) -> Result<Vec<Snapshot>, BelowError> {
    let mut memory = 0;
    let mut count = |tree: &Snapshot| match limits.limit_memory() {
        true => {
            memory += tree.memory();
            limits.check_memory(memory)
        }
        false => Ok(()),
    };
    trees.iter().try_for_each(&mut count)?;
    for directory in directories {
        let tree = Snapshot::take(directory, options)?;
        count(&tree)?;
        trees.push(tree);
    }
    Ok(trees)
}

/// Something that is shown, as an index.
pub(crate) type ShownId = usize;

/// A file in one of the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) tree: usize,
    pub(crate) node: NodeId,
}

/// What is shown at one path. Nothing in it ever changes: a layer on top makes new ones, which share what stays.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Where its attributes are.
    pub(crate) source: Source,
    /// Where a file's data is.
    pub(crate) data: Source,
    /// Of a directory.
    pub(crate) children: Option<BTreeMap<Vec<u8>, ShownId>>,
}

/// What the lower directories show.
#[derive(Debug)]
pub(crate) struct Below<'a> {
    trees: &'a [Snapshot],
    overlay: Overlay,
    shown: Vec<Shown>,
    root: Option<ShownId>,
}

/// A directory of a layer that is being laid on what is under it.
struct Laying {
    node: NodeId,
    under: Option<ShownId>,
    /// What is shown in it, as far as that is known.
    children: BTreeMap<Vec<u8>, ShownId>,
    /// How many of its own names were laid.
    laid: usize,
}

impl<'a> Below<'a> {
    /// The trees from this one on, each below the one before.
    pub(crate) fn new(trees: &'a [Snapshot], topmost: usize, overlay: Overlay) -> Result<Self, BelowError> {
        let mut below = Self { trees, overlay, shown: Vec::new(), root: None };
        for tree in (topmost..trees.len()).rev() {
            let root = below.lay(tree)?;
            below.root = Some(root);
        }
        Ok(below)
    }

    pub(crate) fn root(&self) -> Option<ShownId> {
        self.root
    }

    pub(crate) fn get(&self, id: ShownId) -> &Shown {
        &self.shown[id]
    }

    pub(crate) fn child(&self, directory: Option<ShownId>, name: &[u8]) -> Option<ShownId> {
        self.shown[directory?].children.as_ref()?.get(name).copied()
    }

    pub(crate) fn find(&self, path: &[u8]) -> Option<ShownId> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.fold(self.root, |at, name| self.child(at, name))
    }

    /// What a redirect leads to; `parent` is what is below the directory that has it.
    pub(crate) fn follow(&self, redirect: &Redirect, parent: Option<ShownId>) -> Option<ShownId> {
        match redirect {
            Redirect::Absolute(path) => self.find(path),
            Redirect::Sibling(name) => self.child(parent, name),
        }
    }

    /// Where the data of a file is that only holds attributes.
    pub(crate) fn data(&self, source: Source, name: &[u8], parent: Option<ShownId>) -> Option<Source> {
        let found = match self.overlay.redirect(self.trees[source.tree].entry(source.node)) {
            Some(redirect) => self.follow(&redirect, parent)?,
            None => self.child(parent, name)?,
        };
        let shown = self.get(found);
        shown.children.is_none().then_some(shown.data)
    }

    /// Lays a tree on what is shown so far.
    fn lay(&mut self, tree: usize) -> Result<ShownId, BelowError> {
        let trees = self.trees;
        let names = &trees[tree];
        // The directories that the present one is in.
        let mut above: Vec<Laying> = Vec::new();
        let mut directory = self.enter(tree, ROOT, self.root, None);
        loop {
            let Some(&child) = names.children(directory.node).get(directory.laid) else {
                let source = Source { tree, node: directory.node };
                let children = Some(std::mem::take(&mut directory.children));
                let shown = self.push(Shown { source, data: source, children });
                let Some(parent) = above.pop() else { return Ok(shown) };
                let name = names.name(directory.node).to_vec();
                directory = parent;
                directory.children.insert(name, shown);
                continue;
            };
            directory.laid += 1;
            let (name, entry) = (names.name(child), names.entry(child));
            let source = Source { tree, node: child };
            if self.overlay.is_whiteout(entry) {
                directory.children.remove(name);
            } else if entry.kind == TreeKind::Directory {
                let entered = self.enter(tree, child, directory.children.get(name).copied(), directory.under);
                above.push(std::mem::replace(&mut directory, entered));
            } else {
                let data = match self.overlay.is_metacopy(entry) {
                    true => self.data(source, name, directory.under).ok_or_else(|| {
                        BelowError::MetacopyMissing(LayerPath::normalise(&names.path(child)).unwrap_or_default())
                    })?,
                    false => source,
                };
                let shown = self.push(Shown { source, data, children: None });
                directory.children.insert(name.to_vec(), shown);
            }
        }
    }

    /// Begins with a directory that is laid on `under`; `parent` is what is under the directory that it is in.
    fn enter(&self, tree: usize, node: NodeId, under: Option<ShownId>, parent: Option<ShownId>) -> Laying {
        let entry = self.trees[tree].entry(node);
        let under = match self.overlay.redirect(entry) {
            _ if self.overlay.is_opaque(entry) => None,
            Some(redirect) => self.follow(&redirect, parent),
            None => under,
        };
        let children = under.and_then(|under| self.shown[under].children.clone()).unwrap_or_default();
        Laying { node, under, children, laid: 0 }
    }

    fn push(&mut self, shown: Shown) -> ShownId {
        self.shown.push(shown);
        self.shown.len() - 1
    }
}
