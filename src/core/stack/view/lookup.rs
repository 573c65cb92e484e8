//! Finding what is at a path of a view: symlinks are followed as under chroot (rules N1 and N4).

use super::{Child, DirectoryId, InodeId, SlotId, Source, View};
use crate::core::record::{ChangeKind, LayerPath, NameId, Names};

/// Symlinks that may be followed on the way to one name, as in the kernel.
pub(super) const MOST_LINKS: usize = 40;

/// What is at a path. Two are equal if nothing happened to it in between: the same directory with attributes from the same entry,
/// or the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory {
        /// Which one: a directory that is removed and made again is another one.
        id: DirectoryId,
        /// Where its attributes come from.
        attributes: Source,
    },
    /// Anything else.
    Leaf(InodeId),
}

/// What a path led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is, with no symlink on the way.
    pub path: LayerPath,
    /// What is there.
    pub node: Node,
}

/// What becomes of a symlink at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is followed.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// Why a path leads to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// A name that is not there.
    #[error("{0:?} does not exist")]
    Missing(LayerPath),
    /// A way through something that is not a directory.
    #[error("{0:?} is not a directory")]
    NotADirectory(LayerPath),
    /// A circle, most likely.
    #[error("more than 40 symbolic links on the way")]
    TooManyLinks,
}

pub(super) enum Step<'r> {
    To(DirectoryId),
    Follow { link: SlotId, from: DirectoryId, target: &'r [u8] },
    Missing,
    Blocked(InodeId),
}

impl<'r> View<'r> {
    /// The directory at a path, with symlinks followed as under chroot; `None` if there is none. `links` gets those that were followed.
    pub(super) fn find_path(&self, names: &Names, path: NameId, links: &mut Vec<SlotId>) -> Option<DirectoryId> {
        self.walk(names.ascend(path).collect(), links, DirectoryId::ROOT).ok()
    }

    /// What is at a path, which may say what it likes.
    pub(in crate::core::stack) fn resolve(&self, path: &[u8], last: Last) -> Result<Found, LookupError> {
        let mut links = Vec::new();
        let mut at = DirectoryId::ROOT;
        let mut rest = path;
        loop {
            // A slash at the end asks for the directory behind a symlink, as everywhere.
            let name_start = rest.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (parents, name) = rest.split_at(name_start);
            at = self.walk(parents.split(|&byte| byte == b'/').rev().collect(), &mut links, at)?;
            if matches!(name, b"" | b"." | b"..") {
                at = self.walk(vec![name], &mut links, at)?;
                return Ok(self.found(self.directories[at.index()].slot));
            }
            match (self.step(at, name), self.find(at, name)) {
                (Step::Missing, _) | (_, None) => return Err(LookupError::Missing(self.path_in(at, name))),
                (Step::Follow { link, from, target }, _) if last == Last::Follow => {
                    links.push(link);
                    if links.len() > MOST_LINKS {
                        return Err(LookupError::TooManyLinks);
                    }
                    (at, rest) = (from, target);
                }
                (_, Some(slot)) => return Ok(self.found(slot)),
            }
        }
    }

    /// What a slot holds; [`SlotId::NONE`] stands for the root.
    pub(in crate::core::stack) fn node(&self, slot: SlotId) -> Option<Node> {
        let child = if slot == SlotId::NONE { Child::Directory(DirectoryId::ROOT) } else { self.child(slot) };
        match child {
            Child::Nothing => None,
            Child::Directory(id) => Some(Node::Directory { id, attributes: self.directory_source(id) }),
            Child::Leaf(inode) => Some(Node::Leaf(inode)),
        }
    }

    /// Where a slot is: directories never move.
    pub(in crate::core::stack) fn slot_path(&self, slot: SlotId) -> LayerPath {
        let mut components = Vec::new();
        let mut at = slot;
        while at != SlotId::NONE {
            components.push(self.slot_name(at));
            at = self.directory_slot(self.slot_directory(at));
        }
        LayerPath::of_components(components.into_iter().rev())
    }

    fn found(&self, slot: SlotId) -> Found {
        let root = Node::Directory { id: DirectoryId::ROOT, attributes: self.directory_source(DirectoryId::ROOT) };
        Found { path: self.slot_path(slot), node: self.node(slot).unwrap_or(root) }
    }

    /// The directory that components lead to, the last of them first.
    fn walk<'p>(
        &self,
        mut pending: Vec<&'p [u8]>,
        links: &mut Vec<SlotId>,
        from: DirectoryId,
    ) -> Result<DirectoryId, LookupError>
    where
        'r: 'p,
    {
        let mut at = from;
        while let Some(component) = pending.pop() {
            match self.step(at, component) {
                Step::To(directory) => at = directory,
                Step::Follow { link, from, target } => {
                    links.push(link);
                    if links.len() > MOST_LINKS {
                        return Err(LookupError::TooManyLinks);
                    }
                    at = from;
                    pending.extend(target.split(|&byte| byte == b'/').rev());
                }
                Step::Missing => return Err(LookupError::Missing(self.path_in(at, component))),
                Step::Blocked(_) => return Err(LookupError::NotADirectory(self.path_in(at, component))),
            }
        }
        Ok(at)
    }

    pub(super) fn path_in(&self, directory: DirectoryId, name: &[u8]) -> LayerPath {
        let directory = self.slot_path(self.directory_slot(directory));
        LayerPath::of_components(directory.components().chain([name]))
    }

    pub(super) fn step(&self, at: DirectoryId, component: &[u8]) -> Step<'r> {
        match component {
            b"" | b"." => return Step::To(at),
            b".." => {
                return Step::To(match self.directories[at.index()].slot {
                    SlotId::NONE => at,
                    slot => self.slots[slot.index()].directory,
                });
            }
            _ => {}
        }
        let Some(link) = self.find(at, component) else {
            return Step::Missing;
        };
        match self.child(link) {
            Child::Nothing => Step::Missing,
            Child::Directory(directory) => Step::To(directory),
            Child::Leaf(inode) => match &self.change(self.inodes[inode.index()].source).kind {
                ChangeKind::Symlink { target, .. } => {
                    let from = if target.starts_with(b"/") { DirectoryId::ROOT } else { at };
                    Step::Follow { link, from, target }
                }
                _ => Step::Blocked(inode),
            },
        }
    }
}
