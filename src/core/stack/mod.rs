//! Replays a stack of layers in memory: the tree that they show together, and what each layer's directory must hold so
//! that overlayfs shows the same tree.
//!
//! This is the heart of the program. [`View`] replays the layers' records bottom up, whiteouts first, then entries; a
//! [`Difference`] is what has to be unpacked on disk to get from one view to the next. Nothing here does I/O, so all
//! of it is tested without root and without a file system.
//!
//! # One layer, step by step
//!
//! The layers below have a file `old` and a directory `d` with the files `d/x` and `d/y`. The next layer's archive has:
//!
//! ```text
//! d/z                  a regular file
//! d/.wh..wh..opq       an opaque whiteout
//! .wh.old              a whiteout
//! .wh.never            a whiteout of a name that no layer has
//! ```
//!
//! 1. Whiteouts come first, wherever they are in the archive, and act on the layers below only (rule M1): `old`, `d/x` and
//!    `d/y` leave the view. `.wh.never` deletes nothing.
//! 2. Then the entries: `d/z` joins the view. The opaque whiteout does not touch it, since it is in the same layer.
//! 3. The difference to the view before says what the layer's directory must hold for the kernel to show the same: `d`,
//!    opaque, with `z` in it, and a whiteout `old`. There is none for `never`, which overlayfs would list (rule O1).
//!
//! A flat rootfs is the same with one difference: from nothing to the view after the last layer.

mod children;
mod difference;
mod events;
mod growing;
#[cfg(test)]
mod tests;
mod view;

use std::borrow::Cow;

use crate::core::cancel::Cancel;
use crate::core::filter::Filter;
use crate::core::limits::Limits;
use crate::core::record::{Attributes, Change, ContentId, LayerPath, Record};

pub(crate) use children::Children;
pub use difference::{Difference, LayerEntry, Over, What};
pub use events::{Event, Step};
pub(crate) use growing::GrowingStack;
use view::{Changes, SlotId};
pub use view::{DirectoryId, InodeId, Last, LookupError, Node, Resolved, Source, View};

/// A stack, replayed.
#[derive(Debug)]
pub struct Stack<'r> {
    view: View<'r>,
    layers: Vec<Difference>,
    reading: Reading,
}

/// What a layer asks for that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {path:?}")]
pub struct StackError {
    /// The layer, counted from 0 at the bottom.
    pub layer: usize,
    /// The entry's path.
    pub path: LayerPath,
    /// The problem.
    #[source]
    pub problem: Problem,
}

/// The ways in which an entry can be wrong in its place in the stack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A parent that the same layer made a file (rule N4).
    #[error("its parent {0:?} is not a directory but a file of the same layer")]
    ParentIsFile(LayerPath),
    /// A parent that a symlink makes of a file (rule N4).
    #[error(
        "the symbolic link {link:?} on the way to it points to {file:?}, which is not a directory; \
         to replace the link, a layer needs a directory entry {link:?}"
    )]
    ParentLeadsToFile {
        /// The symlink that was followed last.
        link: LayerPath,
        /// The file.
        file: LayerPath,
    },
    /// More than 40 symlinks on the way (rule N4).
    #[error("more than 40 symbolic links on the way to it")]
    TooManyLinks,
    /// A root that is not a directory (rule N2).
    #[error("the root of a file system must be a directory")]
    RootIsNoDirectory,
    /// A hard link to nothing (rule L1).
    #[error("hard link to {0:?}, which is neither earlier in this layer nor in a lower layer")]
    LinkTargetMissing(LayerPath),
    /// A hard link to a directory (rule L2).
    #[error("hard link to {0:?}, which is a directory")]
    LinkToDirectory(LayerPath),
    /// A hard link that would replace the directory that its target is in.
    #[error("hard link to {0:?} would replace a directory that holds its own target")]
    LinkReplacesTarget(LayerPath),
    /// More than four thousand million files, or four gibibytes of names.
    #[error("the stack has more names than can be counted")]
    TooManyNames,
    /// The layers together ask for more than they may (rule S4).
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was too much.
        what: &'static str,
        /// The most there may be.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// [`Cancel`] was used.
    #[error("interrupted")]
    Cancelled,
}

/// How a stack is read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Ignore entries for the root directory (rule N2).
    pub ignore_root_entry: bool,
    /// Paths to leave out of what is unpacked, and the attributes of directories that no layer names.
    pub filter: Filter,
    /// The most that the layers may ask for together.
    pub limits: Limits,
    /// Ends the replay.
    pub cancel: Cancel,
}

impl<'r> Stack<'r> {
    /// Replays the layers' records, bottom first.
    ///
    /// # Errors
    /// The first entry that cannot be carried out.
    pub fn replay(records: &'r [Record], reading: Reading) -> Result<Self, StackError> {
        Self::replay_watched(records, reading, &mut |_| {})
    }

    /// Replays the layers' records, bottom first, and shows each step to `watch`.
    ///
    /// # Errors
    /// The first entry that cannot be carried out; the layers below it were shown.
    pub fn replay_watched(
        records: &'r [Record],
        reading: Reading,
        watch: &mut dyn FnMut(&Step<'_, 'r>),
    ) -> Result<Self, StackError> {
        let mut stack = Self::empty(records, reading);
        for layer in 0..records.len() {
            let changes = stack.apply(layer)?;
            watch(&Step::new(layer, &stack.view, &changes));
        }
        Ok(stack)
    }

    /// Replays the layers' records, bottom first, for what they show together: [`whole`](Self::whole) says it as after [`replay`](Self::replay), at less cost,
    /// and [`layers`](Self::layers) is empty.
    ///
    /// # Errors
    /// The first entry that cannot be carried out.
    pub fn replay_shown(records: &'r [Record], reading: Reading) -> Result<Self, StackError> {
        let mut stack = Self::empty(records, reading);
        for layer in 0..records.len() {
            stack.change(layer)?;
        }
        Ok(stack)
    }

    /// Replays the layers' records, bottom first, of which those from `from` on count as one layer.
    ///
    /// # Errors
    /// The first entry that cannot be carried out.
    pub fn replay_as_one(records: &'r [Record], from: usize, reading: Reading) -> Result<Self, StackError> {
        let mut stack = Self::empty(records, reading);
        for layer in 0..from.min(records.len()) {
            stack.apply(layer)?;
        }
        if from < records.len() {
            let mut changes = Changes { since: from as u32 + 1, ..Changes::default() };
            for layer in from..records.len() {
                changes = stack.view.apply(layer, &stack.reading, changes)?;
            }
            stack.push(&changes);
        }
        Ok(stack)
    }

    /// The contents that are not shown any more once these layers are on one another, and so are of no use to a flat
    /// tree whatever layers come: of each, the layer and its number there.
    ///
    /// # Errors
    /// The first entry that cannot be carried out.
    pub(crate) fn lost_contents(
        records: &'r [Record],
        reading: Reading,
    ) -> Result<Vec<(usize, ContentId)>, StackError> {
        Ok(Self::replay_shown(records, reading)?.view.lost_contents())
    }

    fn empty(records: &'r [Record], reading: Reading) -> Self {
        let view = View::new(records, &reading);
        Self { view, layers: Vec::with_capacity(records.len()), reading }
    }

    /// Replays one layer on those that were.
    fn apply(&mut self, layer: usize) -> Result<Changes, StackError> {
        let changes = self.change(layer)?;
        self.push(&changes);
        Ok(changes)
    }

    /// The same, without asking what its directory must hold.
    fn change(&mut self, layer: usize) -> Result<Changes, StackError> {
        let changes = Changes { since: layer as u32 + 1, ..Changes::default() };
        self.view.apply(layer, &self.reading, changes)
    }

    fn push(&mut self, changes: &Changes) {
        let difference = Difference::of_layer(&mut self.view, changes);
        let difference = self.filtered(difference);
        self.layers.push(difference);
    }

    fn filtered(&self, mut difference: Difference) -> Difference {
        let exclude = &self.reading.filter.exclude;
        if !exclude.is_empty() {
            difference.leave_out(|all, index| exclude.matches(self.path(all, index).as_bytes()));
        }
        difference
    }

    /// What each layer's directory must hold, bottom first (rules O1 to O4).
    pub fn layers(&self) -> &[Difference] {
        &self.layers
    }

    /// What one directory must hold that shows everything: the flat rootfs.
    pub fn whole(&self) -> Difference {
        self.filtered(Difference::whole(&self.view))
    }

    /// The name of an emitted entry in its directory; empty for the root.
    pub fn name(&self, entry: &LayerEntry) -> &[u8] {
        self.view.emission_name(entry)
    }

    /// The path of an emitted entry.
    pub fn path(&self, difference: &Difference, index: usize) -> LayerPath {
        let mut components = Vec::new();
        let mut at = index;
        while at != 0 {
            components.push(self.name(&difference.entries()[at]));
            at = difference.entries()[at].parent();
        }
        LayerPath::of_components(components.into_iter().rev())
    }

    /// Where something happened, with no symlink on the way.
    pub fn place(&self, event: &Event) -> LayerPath {
        self.view.slot_path(event.place)
    }

    /// The last component of [`place`](Self::place), at hand without the rest.
    pub fn place_name(&self, event: &Event) -> &[u8] {
        if event.place == SlotId::NONE { b"" } else { self.view.slot_name(event.place) }
    }

    /// The paths that a layer's opaque whiteouts delete, where no whiteout says so.
    pub fn hidden_by_opaque<'a>(&'a self, difference: &'a Difference) -> impl Iterator<Item = LayerPath> + 'a {
        difference.hidden().iter().map(|&(directory, slot)| {
            let directory = self.path(difference, directory as usize);
            LayerPath::of_components(directory.components().chain([self.view.slot_name(slot)]))
        })
    }

    /// What is at a path, as under chroot. The path may be absolute and may contain `..`.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn resolve(&self, path: &[u8], last: Last) -> Result<Resolved, LookupError> {
        self.view.resolve(path, last)
    }

    /// All files that any layer has, shown or not, in the order of the layers and their entries.
    pub fn inodes(&self) -> impl Iterator<Item = InodeId> + use<> {
        self.view.inodes()
    }

    /// The entry that made a file, and the layer that has it.
    pub fn origin(&self, inode: InodeId) -> (usize, &'r Change) {
        self.view.origin(inode)
    }

    /// Whether a file has, or had, more than one name.
    pub fn is_linked(&self, inode: InodeId) -> bool {
        self.view.is_linked(inode)
    }

    /// Whether a layer above the one that made a file gives it another name, so that the overlay layers must hold a
    /// copy of it there (rule L2).
    pub fn is_copied_up(&self, inode: InodeId) -> bool {
        self.view.is_copied_up(inode)
    }

    /// The attributes of a difference's root.
    pub fn root_attributes(&self, difference: &Difference) -> Attributes {
        match difference.entries().first().map(|root| root.what) {
            Some(What::Directory { attributes, .. }) => self.directory_attributes(attributes).into_owned(),
            _ => self.unnamed_attributes(),
        }
    }

    /// The attributes of the root that is shown.
    pub(crate) fn shown_root(&self) -> Attributes {
        self.directory_attributes(self.view.directory_source(DirectoryId::ROOT)).into_owned()
    }

    /// The attributes of an emitted directory.
    pub fn directory_attributes(&self, source: Source) -> Cow<'r, Attributes> {
        self.view.attributes(source).map_or_else(|| Cow::Owned(self.unnamed_attributes()), Cow::Borrowed)
    }

    /// The attributes of a directory that no layer names (rule N5).
    fn unnamed_attributes(&self) -> Attributes {
        let mut attributes = Attributes::of_unnamed_directory();
        self.reading.filter.change(&mut attributes);
        attributes
    }
}
