//! Lists a directory: of the whole image, or only what one layer changes.

use hashbrown::HashMap;

use super::entry::{PathEntry, PathKind};
use super::{Inside, InsideError};
use crate::core::record::LayerPath;
use crate::core::stack::{Difference, InodeId, Last, Node, Over, What};

/// What is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only what this layer changes, instead of what all layers show.
    pub changed_by: Option<usize>,
    /// All that is in directories, too.
    pub recursive: bool,
    /// A directory itself, and not what is in it.
    pub itself: bool,
    /// A symlink at the end of the path itself, and not the directory that it leads to.
    pub links: bool,
}

/// What was found at a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The directory that was listed; none where the entry is what was asked for itself.
    pub directory: Option<LayerPath>,
    /// What is in it, sorted by name, each directory before what is in it.
    pub entries: Vec<PathEntry>,
}

impl Inside<'_> {
    /// What is at a path: of a directory what is in it.
    ///
    /// # Errors
    /// Nothing is there, or there is no such layer.
    pub fn list(&self, path: &[u8], options: ListOptions) -> Result<Listing, InsideError> {
        let lookup = |error| InsideError::lookup(path, error);
        if let Some(layer) = options.changed_by {
            return self.list_layer(layer, path, options);
        }
        let mut found = self.stack.resolve(path, Last::Keep).map_err(lookup)?;
        if !options.links
            && let Ok(behind) = self.stack.resolve(path, Last::Follow)
        {
            // A link to a file is listed as the link.
            if matches!(behind.node, Node::Directory { .. }) {
                found = behind;
            }
        }
        let whole = self.stack.whole();
        let start = self.locate(&whole, &found.path);
        Ok(start.map(|start| self.below(&whole, start, options)).unwrap_or_default())
    }

    fn list_layer(&self, layer: usize, path: &[u8], options: ListOptions) -> Result<Listing, InsideError> {
        let count = self.stack.layers().len();
        let difference = self.stack.layers().get(layer).ok_or(InsideError::NoSuchLayer { layer, count })?;
        let path = LayerPath::normalise(path).unwrap_or_default();
        match self.locate(difference, &path) {
            Some(start) => Ok(self.below(difference, start, options)),
            None if path.is_root() => Ok(Listing { directory: Some(path), entries: Vec::new() }),
            None => Err(InsideError::NotInLayer { layer, path }),
        }
    }

    /// The entry at a path.
    fn locate(&self, difference: &Difference, path: &LayerPath) -> Option<usize> {
        let entries = difference.entries();
        let mut at = (!entries.is_empty()).then_some(0)?;
        for component in path.components() {
            at = inside(difference, at)
                .find(|&index| entries[index].parent() == at && self.stack.name(&entries[index]) == component)?;
        }
        Some(at)
    }

    fn below(&self, difference: &Difference, start: usize, options: ListOptions) -> Listing {
        let entries = difference.entries();
        let mut names: HashMap<InodeId, u32> = HashMap::new();
        for entry in entries {
            if let What::Leaf(inode) = entry.what {
                *names.entry(inode).or_default() += 1;
            }
        }
        let listed = |index| self.listed(difference, index, &names);
        if options.itself || !matches!(entries[start].what, What::Directory { .. }) {
            return Listing { directory: None, entries: vec![listed(start)] };
        }
        let touched = touched(difference);
        let entries = inside(difference, start)
            .filter(|&index| touched[index] && (options.recursive || entries[index].parent() == start))
            .map(listed)
            .collect();
        Listing { directory: Some(self.stack.path(difference, start)), entries }
    }

    fn listed(&self, difference: &Difference, index: usize, names: &HashMap<InodeId, u32>) -> PathEntry {
        let path = self.stack.path(difference, index);
        let entry = &difference.entries()[index];
        match entry.what {
            What::Whiteout => PathEntry { path, kind: PathKind::Whiteout, facts: None, links: None, opaque: false },
            What::Leaf(inode) => self.entry(path, Node::Leaf(inode), names.get(&inode).copied()),
            What::Directory { id, attributes, opaque, .. } => {
                let is_child = |&child: &usize| {
                    let child = &difference.entries()[child];
                    child.parent() == index && matches!(child.what, What::Directory { .. })
                };
                let links = 2 + inside(difference, index).filter(is_child).count() as u32;
                PathEntry { opaque, ..self.entry(path, Node::Directory { id, attributes }, Some(links)) }
            }
        }
    }
}

/// For each entry, whether it is there for itself or for what is in it. Not so the copies that overlay layers must
/// hold of files which got another name elsewhere (rule L2): nothing happened to those.
fn touched(difference: &Difference) -> Vec<bool> {
    let entries = difference.entries();
    let mut touched = vec![false; entries.len()];
    for (index, entry) in entries.iter().enumerate().rev() {
        let itself = match entry.what {
            What::Directory { changed, .. } => changed,
            What::Leaf(_) | What::Whiteout => entry.over != Over::Same,
        };
        touched[index] |= itself;
        touched[entry.parent()] |= touched[index];
    }
    touched
}

/// All that is in a directory at any depth, in order. Every directory stands right before what is in it.
fn inside(difference: &Difference, directory: usize) -> impl Iterator<Item = usize> {
    let entries = difference.entries();
    (directory + 1..entries.len()).take_while(move |&index| entries[index].parent() >= directory)
}
