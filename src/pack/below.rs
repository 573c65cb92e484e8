//! The view of the lower directories, as overlayfs merges them. It is only needed where the upper directory refers to a
//! file below (redirect, metacopy).

use std::collections::BTreeMap;

use super::error::PackError;
use super::overlay::{Overlay, Redirect};
use crate::core::record::LayerPath;
use crate::tree::{NodeId, ROOT, Snapshot, TreeKind};

/// Directories in one another that are followed; far more than any real tree has.
const DEEPEST: usize = 1024;

/// Something that is shown, as an index.
pub(super) type ShownId = usize;

/// A file in one of the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) tree: usize,
    pub(super) node: NodeId,
}

/// What is shown at one path. Nothing in it ever changes: a layer on top makes new ones, which share what stays.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Where its attributes are.
    pub(super) source: Source,
    /// Where a file's data is.
    pub(super) data: Source,
    /// Of a directory.
    pub(super) children: Option<BTreeMap<Vec<u8>, ShownId>>,
}

/// What the lower directories show.
#[derive(Debug)]
pub(super) struct Below<'a> {
    trees: &'a [Snapshot],
    overlay: Overlay,
    shown: Vec<Shown>,
    root: Option<ShownId>,
}

impl<'a> Below<'a> {
    /// The first of the trees is the upper one; the others are below it, topmost first.
    pub(super) fn new(trees: &'a [Snapshot], overlay: Overlay) -> Result<Self, PackError> {
        let mut below = Self { trees, overlay, shown: Vec::new(), root: None };
        for tree in (1..trees.len()).rev() {
            let root = below.lay(Source { tree, node: ROOT }, below.root, None, 0)?;
            below.root = Some(root);
        }
        Ok(below)
    }

    pub(super) fn get(&self, id: ShownId) -> &Shown {
        &self.shown[id]
    }

    pub(super) fn child(&self, directory: Option<ShownId>, name: &[u8]) -> Option<ShownId> {
        self.shown[directory?].children.as_ref()?.get(name).copied()
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<ShownId> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.fold(self.root, |at, name| self.child(at, name))
    }

    /// What a redirect leads to; `parent` is what is below the directory that has it.
    pub(super) fn follow(&self, redirect: &Redirect, parent: Option<ShownId>) -> Option<ShownId> {
        match redirect {
            Redirect::Absolute(path) => self.find(path),
            Redirect::Sibling(name) => self.child(parent, name),
        }
    }

    /// Where the data of a file is that only holds attributes.
    pub(super) fn data(&self, source: Source, name: &[u8], parent: Option<ShownId>) -> Option<Source> {
        let found = match self.overlay.redirect(self.trees[source.tree].entry(source.node)) {
            Some(redirect) => self.follow(&redirect, parent)?,
            None => self.child(parent, name)?,
        };
        let shown = self.get(found);
        shown.children.is_none().then_some(shown.data)
    }

    /// Lays something of a layer on what was shown there: `under`; `parent` is what is under the directory that it is
    /// in.
    fn lay(
        &mut self,
        source: Source,
        under: Option<ShownId>,
        parent: Option<ShownId>,
        depth: usize,
    ) -> Result<ShownId, PackError> {
        let tree = &self.trees[source.tree];
        let entry = tree.entry(source.node);
        let path = || LayerPath::normalise(&tree.path(source.node)).unwrap_or_default();
        if depth > DEEPEST {
            return Err(PackError::TooDeep(path(), DEEPEST));
        }
        if entry.kind != TreeKind::Directory {
            let data = match self.overlay.is_metacopy(entry) {
                true => self
                    .data(source, tree.name(source.node), parent)
                    .ok_or_else(|| PackError::MetacopyMissing(path()))?,
                false => source,
            };
            self.shown.push(Shown { source, data, children: None });
            return Ok(self.shown.len() - 1);
        }
        let under = match self.overlay.redirect(entry) {
            _ if self.overlay.is_opaque(entry) => None,
            Some(redirect) => self.follow(&redirect, parent),
            None => under,
        };
        let mut children = under.and_then(|under| self.shown[under].children.clone()).unwrap_or_default();
        for &child in tree.children(source.node) {
            let name = tree.name(child).to_vec();
            if self.overlay.is_whiteout(tree.entry(child)) {
                children.remove(&name);
                continue;
            }
            let source = Source { tree: source.tree, node: child };
            let laid = self.lay(source, self.child(under, &name), under, depth + 1)?;
            children.insert(name, laid);
        }
        self.shown.push(Shown { source, data: source, children: Some(children) });
        Ok(self.shown.len() - 1)
    }
}
