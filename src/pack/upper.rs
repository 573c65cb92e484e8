//! Packs a directory of changes: the upper directory of an overlay mount.

use std::io::Write;

use super::error::PackError;
use super::write::Packing;
use crate::below::{Below, Overlay, Redirect, ShownId, Source};
use crate::core::record::LayerPath;
use crate::tree::{NodeId, ROOT, Snapshot, TreeKind};

/// What is still to be written, at a path.
enum Waiting {
    /// Changes; what lies below stays in the layers below.
    Changes { node: NodeId, path: Vec<u8> },
    /// Changes to something that the layers below have elsewhere: all that is there must be written, too.
    Over { node: NodeId, path: Vec<u8>, under: Option<ShownId>, parent: Option<ShownId> },
    /// Something that the layers below have elsewhere.
    Elsewhere { shown: ShownId, path: Vec<u8> },
}

struct Packer<'a, 'w, W: Write> {
    trees: &'a [Snapshot],
    overlay: Overlay,
    /// Made when it is first needed.
    below: Option<Below<'a>>,
    writer: &'w mut Packing<'a, W>,
    waiting: Vec<Waiting>,
}

pub(super) fn pack<'a, W: Write>(
    trees: &'a [Snapshot],
    overlay: Overlay,
    writer: &mut Packing<'a, W>,
) -> Result<(), PackError> {
    let mut packer = Packer { trees, overlay, below: None, writer, waiting: Vec::new() };
    packer.waiting.push(Waiting::Changes { node: ROOT, path: Vec::new() });
    while let Some(next) = packer.waiting.pop() {
        match next {
            Waiting::Changes { node, path } => packer.changes(node, &path)?,
            Waiting::Over { node, path, under, parent } => packer.over(node, &path, under, parent)?,
            Waiting::Elsewhere { shown, path } => packer.elsewhere(shown, &path)?,
        }
    }
    Ok(())
}

impl<'a, W: Write> Packer<'a, '_, W> {
    fn upper(&self) -> &'a Snapshot {
        &self.trees[0]
    }

    /// What the lower directories show; an error if none were named.
    fn below(&mut self, missing: impl FnOnce() -> PackError) -> Result<&Below<'a>, PackError> {
        if self.trees.len() < 2 {
            return Err(missing());
        }
        let below = match self.below.take() {
            Some(below) => below,
            None => Below::new(self.trees, 1, self.overlay)?,
        };
        Ok(self.below.insert(below))
    }

    fn changes(&mut self, node: NodeId, path: &[u8]) -> Result<(), PackError> {
        let upper = self.upper();
        let entry = upper.entry(node);
        if node != ROOT && self.overlay.is_whiteout(entry) {
            return self.writer.whiteout(path);
        }
        let source = Source { tree: 0, node };
        if entry.kind != TreeKind::Directory {
            let data = if self.overlay.is_metacopy(entry) { self.data(source, path)? } else { source };
            return self.writer.leaf(path, source, data);
        }
        if let Some(redirect) = self.overlay.redirect(entry).filter(|_| !self.overlay.is_opaque(entry)) {
            let (at, target) = (layer_path(path), target(&redirect, path));
            let below = self.below(|| PackError::Redirect { path: at, target })?;
            let parent = below.find(split(path).0);
            return self.over(node, path, None, parent);
        }
        self.writer.directory(path, source)?;
        if self.overlay.is_opaque(entry) && node != ROOT && self.may_hide(path)? {
            self.writer.opaque(path)?;
        }
        for &child in upper.children(node).iter().rev() {
            self.waiting.push(Waiting::Changes { node: child, path: join(path, upper.name(child)) });
        }
        Ok(())
    }

    /// Whether a directory is below at a path, with no symlink on the way; in doubt there is one. Nowhere else is an
    /// opaque marker written (rule M1): other programs would follow a symlink that is below, and empty what it leads
    /// to.
    fn may_hide(&mut self, path: &[u8]) -> Result<bool, PackError> {
        if self.trees.len() < 2 {
            return Ok(true);
        }
        let below = self.below(|| PackError::MetacopyMissing(layer_path(path)))?;
        Ok(below.find(path).is_some_and(|shown| below.get(shown).children.is_some()))
    }

    fn data(&mut self, source: Source, path: &[u8]) -> Result<Source, PackError> {
        let at = layer_path(path);
        let (parent, name) = split(path);
        let below = self.below(|| PackError::Metacopy(at.clone()))?;
        below.data(source, name, below.find(parent)).ok_or(PackError::MetacopyMissing(at))
    }

    /// Something of the upper directory, and all that is under it, which has no place of its own below.
    fn over(
        &mut self,
        node: NodeId,
        path: &[u8],
        under: Option<ShownId>,
        parent: Option<ShownId>,
    ) -> Result<(), PackError> {
        let upper = self.upper();
        let entry = upper.entry(node);
        let source = Source { tree: 0, node };
        let overlay = self.overlay;
        let missing = || PackError::MetacopyMissing(layer_path(path));
        let below = self.below(missing)?;
        if entry.kind != TreeKind::Directory {
            let data = match overlay.is_metacopy(entry) {
                true => below.data(source, split(path).1, parent).ok_or_else(missing)?,
                false => source,
            };
            return self.writer.leaf(path, source, data);
        }
        let under = match overlay.redirect(entry) {
            _ if overlay.is_opaque(entry) => None,
            Some(redirect) => {
                let found = below.follow(&redirect, parent).filter(|&found| below.get(found).children.is_some());
                let (path, target) = (layer_path(path), target(&redirect, path));
                Some(found.ok_or(PackError::RedirectMissing { path, target })?)
            }
            None => under,
        };
        let mut children = under.and_then(|under| below.get(under).children.clone()).unwrap_or_default();
        let mut waiting: Vec<Waiting> = Vec::new();
        for &child in upper.children(node) {
            let name = upper.name(child);
            let under_child = children.remove(name);
            if !overlay.is_whiteout(upper.entry(child)) {
                let path = join(path, name);
                waiting.push(Waiting::Over { node: child, path, under: under_child, parent: under });
            }
        }
        let others = children.into_iter().map(|(name, shown)| Waiting::Elsewhere { shown, path: join(path, &name) });
        waiting.extend(others);
        self.writer.directory(path, source)?;
        // Whatever was here is not what is shown here now.
        if self.may_hide(path)? {
            self.writer.opaque(path)?;
        }
        self.push_sorted(waiting);
        Ok(())
    }

    fn elsewhere(&mut self, shown: ShownId, path: &[u8]) -> Result<(), PackError> {
        let below = self.below(|| PackError::MetacopyMissing(layer_path(path)))?;
        let found = below.get(shown).clone();
        let Some(children) = found.children else {
            return self.writer.leaf(path, found.source, found.data);
        };
        self.writer.directory(path, found.source)?;
        let waiting = children.into_iter().map(|(name, shown)| Waiting::Elsewhere { shown, path: join(path, &name) });
        self.push_sorted(waiting.collect());
        Ok(())
    }

    fn push_sorted(&mut self, mut waiting: Vec<Waiting>) {
        waiting.sort_by(|one, other| other.path().cmp(one.path()));
        self.waiting.extend(waiting);
    }
}

impl Waiting {
    fn path(&self) -> &[u8] {
        match self {
            Self::Changes { path, .. } | Self::Over { path, .. } | Self::Elsewhere { path, .. } => path,
        }
    }
}

/// Where a renamed thing was, for a message.
fn target(redirect: &Redirect, path: &[u8]) -> LayerPath {
    match redirect {
        Redirect::Absolute(target) => layer_path(target),
        Redirect::Sibling(name) => layer_path(&join(split(path).0, name)),
    }
}

fn layer_path(path: &[u8]) -> LayerPath {
    LayerPath::of_components(path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()))
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
