//! What a stack shows, in words that do not depend on which of two equal stacks it is.

use hashbrown::HashMap;

use crate::core::record::{Attributes, ChangeKind, ContentId, LayerPath};
use crate::core::stack::{InodeId, Stack, What};

/// Where a layer of a stack comes from.
#[derive(Debug)]
pub(super) struct Origin {
    /// The layer of the image.
    pub(super) layer: usize,
    /// The numbers that its contents have there; their own where nothing is said.
    pub(super) contents: Option<Vec<u32>>,
}

impl Origin {
    pub(super) fn whole(layer: usize) -> Self {
        Self { layer, contents: None }
    }
}

/// One name of the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Directory(Attributes),
    /// The layer of the image that a file comes from, and what it is there.
    File(usize, ChangeKind),
    /// One more name of the file that is shown so many names before.
    Again(usize),
}

/// All that a stack shows, in the order of the names.
pub(super) fn shown(stack: &Stack<'_>, origins: &[Origin]) -> Vec<(LayerPath, Shown)> {
    let whole = stack.whole();
    let mut first: HashMap<InodeId, usize> = HashMap::new();
    let mut names = Vec::with_capacity(whole.entries().len());
    for (index, entry) in whole.entries().iter().enumerate() {
        let shown = match entry.what {
            What::Whiteout => continue,
            What::Directory { attributes, .. } => Shown::Directory(stack.directory_attributes(attributes).into_owned()),
            What::Leaf(inode) => match first.get(&inode) {
                Some(&before) => Shown::Again(before),
                None => {
                    first.insert(inode, index);
                    file(stack, inode, origins)
                }
            },
        };
        names.push((stack.path(&whole, index), shown));
    }
    names
}

fn file(stack: &Stack<'_>, inode: InodeId, origins: &[Origin]) -> Shown {
    let (layer, change) = stack.origin(inode);
    let mut kind = change.kind.clone();
    let origin = origins.get(layer);
    if let ChangeKind::File { content, .. } = &mut kind
        && let Some(contents) = origin.and_then(|origin| origin.contents.as_ref())
    {
        *content = ContentId(contents.get(content.0 as usize).copied().unwrap_or(u32::MAX));
    }
    Shown::File(origin.map_or(layer, |origin| origin.layer), kind)
}
