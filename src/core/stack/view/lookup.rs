//! Resolves a path in a view. Symlinks are followed as under chroot (rules N1 and N4).

use super::{Child, DirectoryId, InodeId, SlotId, Source, View};
use crate::core::record::{ChangeKind, LayerPath, NameId, Names};

/// Symlinks that may be followed on the way to one name, as in the kernel.
const MOST_LINKS: usize = 40;

/// What is at a path. Two are equal if nothing happened to it in between: the same directory with attributes from the
/// same entry, or the same file.
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
pub struct Resolved {
    /// Where it is, with no symlink on the way.
    pub path: LayerPath,
    /// What is available.
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

enum Step<'r> {
    To(DirectoryId),
    Follow { link: SlotId, from: DirectoryId, target: &'r [u8] },
    Missing,
    Blocked(InodeId),
}

/// The way along a path, symlinks followed as under chroot.
pub(super) struct Walk<'p> {
    /// Where it has come to.
    pub(super) at: DirectoryId,
    /// The symlinks that were followed.
    pub(super) links: Vec<SlotId>,
    /// What is still to be gone, the next component last.
    pending: Vec<&'p [u8]>,
}

/// Where a walk cannot go on: at a component of the directory that it has come to.
pub(super) enum Stop<'p> {
    Missing(&'p [u8]),
    Blocked(&'p [u8], InodeId),
    TooManyLinks,
}

impl<'p> Walk<'p> {
    /// From the root along components, the first of them last.
    pub(super) fn new(pending: Vec<&'p [u8]>) -> Self {
        Self { at: DirectoryId::ROOT, links: Vec::new(), pending }
    }

    /// Goes to the end of the path, which is a directory. After a stop, it may go on from wherever the caller puts it.
    pub(super) fn go<'r: 'p>(&mut self, view: &View<'r>) -> Result<DirectoryId, Stop<'p>> {
        while let Some(component) = self.pending.pop() {
            match view.step(self.at, component) {
                Step::To(directory) => self.at = directory,
                Step::Follow { link, from, target } => {
                    self.follow(link, from)?;
                    self.push(target);
                }
                Step::Missing => return Err(Stop::Missing(component)),
                Step::Blocked(inode) => return Err(Stop::Blocked(component, inode)),
            }
        }
        Ok(self.at)
    }

    fn follow(&mut self, link: SlotId, from: DirectoryId) -> Result<(), Stop<'p>> {
        self.links.push(link);
        self.at = from;
        if self.links.len() > MOST_LINKS { Err(Stop::TooManyLinks) } else { Ok(()) }
    }

    fn push(&mut self, path: &'p [u8]) {
        self.pending.extend(path.split(|&byte| byte == b'/').rev());
    }
}

impl<'r> View<'r> {
    /// The directory at a path, with symlinks followed as under chroot; `None` if there is none. `links` gets those
    /// that were followed.
    pub(super) fn find_path(&self, names: &Names, path: NameId, links: &mut Vec<SlotId>) -> Option<DirectoryId> {
        let mut walk = Walk::new(names.ascend(path).collect());
        let found = walk.go(self).ok();
        links.append(&mut walk.links);
        found
    }

    /// What is at a path, which may say what it likes.
    pub(in crate::core::stack) fn resolve(&self, path: &[u8], last: Last) -> Result<Resolved, LookupError> {
        let mut walk = Walk::new(Vec::new());
        let mut rest = path;
        loop {
            // A slash at the end asks for the directory behind a symlink, as everywhere.
            let name_start = rest.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (parents, name) = rest.split_at(name_start);
            let is_directory = matches!(name, b"" | b"." | b"..");
            walk.push(if is_directory { rest } else { parents });
            let at = walk.go(self).map_err(|stop| self.lookup_error(walk.at, stop))?;
            if is_directory {
                return Ok(self.found(self.directories[at.index()].slot));
            }
            match (self.step(at, name), self.find(at, name)) {
                (Step::Missing, _) | (_, None) => return Err(LookupError::Missing(self.path_in(at, name))),
                (Step::Follow { link, from, target }, _) if last == Last::Follow => {
                    walk.follow(link, from).map_err(|stop| self.lookup_error(from, stop))?;
                    rest = target;
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

    fn found(&self, slot: SlotId) -> Resolved {
        let root = Node::Directory { id: DirectoryId::ROOT, attributes: self.directory_source(DirectoryId::ROOT) };
        Resolved { path: self.slot_path(slot), node: self.node(slot).unwrap_or(root) }
    }

    fn lookup_error(&self, at: DirectoryId, stop: Stop<'_>) -> LookupError {
        match stop {
            Stop::Missing(component) => LookupError::Missing(self.path_in(at, component)),
            Stop::Blocked(component, _) => LookupError::NotADirectory(self.path_in(at, component)),
            Stop::TooManyLinks => LookupError::TooManyLinks,
        }
    }

    pub(super) fn path_in(&self, directory: DirectoryId, name: &[u8]) -> LayerPath {
        let directory = self.slot_path(self.directory_slot(directory));
        LayerPath::of_components(directory.components().chain([name]))
    }

    fn step(&self, at: DirectoryId, component: &[u8]) -> Step<'r> {
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
