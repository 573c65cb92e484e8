//! Makes a layer's directory hold exactly a difference: the second step that both ways to unpack share.
//!
//! A layer's stage already has most of its files where they belong. First all that does not belong where it is goes out
//! of the way, then the tree is walked once: directories and files that are missing come in, by rename, by link or by
//! being made; whiteouts are written; and on the way back up each directory gets its attributes, when nothing will
//! touch it any more (rule A1). For the overlay layers this is done for each layer's own directory; for the flat rootfs
//! once, with the whole view, in the directory of the layer that has the most files.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use hashbrown::HashMap;
use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::copies::Copies;
use super::known::Known;
use super::share::Shared;
use crate::core::cancel::Cancel;
use crate::core::overlayfs::{Attribute, XattrNamespace};
use crate::core::record::{Attributes, ChangeKind, ContentId, DeviceKind, LayerPath, NameId, Record};
use crate::core::stack::{Difference, InodeId, LayerEntry, Over, Stack, What};
use crate::fs::{Descent, open_directory};
use crate::unpack::stage::{Capabilities, Made, Spill, StageError, Staged, Subject, trying};
use crate::unpack::{LossKind, Losses, Options};

/// Stages that are open at the same time.
const MOST_STAGES: usize = 4;

/// What the finish is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// One directory, no whiteouts.
    Flat,
    /// Directories for overlayfs, with whiteouts in this namespace.
    Overlay(XattrNamespace),
}

/// What settling needs to know.
pub(crate) struct Settler<'a, 'r> {
    pub(crate) stack: &'a Stack<'r>,
    pub(crate) records: &'r [Record],
    pub(crate) stages: &'a mut [Staged],
    pub(crate) spill: Spill,
    pub(crate) capabilities: &'a Capabilities,
    pub(crate) finish: Finish,
    pub(crate) cancel: &'a Cancel,
    pub(crate) losses: Losses,
    /// The layers whose stages are open, the latest last.
    pub(crate) open: VecDeque<usize>,
    /// What copies of files of lower layers may still be made.
    pub(crate) copies: Copies,
    /// The layers that were not read, and so are not settled: where their files are.
    pub(crate) known: &'a [Option<Known>],
    /// Files with several names, which lie among the spilled ones to be linked from there.
    pub(crate) shared: HashMap<InodeId, Shared>,
}

/// What the first step has left.
pub(crate) struct Staging {
    /// One for each layer of the stack.
    pub(crate) stages: Vec<Staged>,
    pub(crate) spill: Spill,
    pub(crate) capabilities: Capabilities,
}

/// Why a tree could not be settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error("{path:?}")]
    File {
        path: LayerPath,
        #[source]
        error: StageError,
    },
    #[error("interrupted")]
    Cancelled,
}

/// For `map_err`: the file that it is about.
fn of(path: impl FnOnce() -> LayerPath) -> impl FnOnce(StageError) -> SettleError {
    move |error| SettleError::File { path: path(), error }
}

/// Where the difference's directories and files already are.
struct Match {
    /// For each entry that is a directory of the stage: its name there.
    directories: Vec<Option<NameId>>,
    /// For each name of the stage: whether what is there stays.
    kept: Vec<bool>,
    /// For each content of the stage: whether the difference has it.
    wanted: Vec<bool>,
}

/// A directory that the walk is in.
struct Level {
    entry: usize,
    /// Set where a device 0:0 had to be written in the kernel's nested form (rule A6).
    nested_whiteouts: bool,
    /// Set where something that could not be kept still has to hide what lies below.
    more_whiteouts: bool,
}

impl<'a, 'r> Settler<'a, 'r> {
    /// Where all layers were read.
    pub(crate) fn new(
        stack: &'a Stack<'r>,
        records: &'r [Record],
        staging: &'a mut Staging,
        finish: Finish,
        copies: Copies,
        options: &'a Options,
    ) -> Self {
        Self {
            stack,
            records,
            stages: &mut staging.stages,
            spill: staging.spill.clone(),
            capabilities: &staging.capabilities,
            finish,
            cancel: &options.cancel,
            losses: Losses::default(),
            open: VecDeque::new(),
            copies,
            known: &[],
            shared: HashMap::new(),
        }
    }

    /// Where some were not: what is known of them, of each layer of the stack.
    pub(crate) fn knowing(self, known: &'a [Option<Known>]) -> Self {
        Self { known, ..self }
    }
}

impl Settler<'_, '_> {
    /// Makes the directory of stage `host` hold `difference`.
    ///
    /// Returns the mode that the root must still get, where having it now would forbid to move it.
    pub(crate) fn settle(&mut self, host: usize, difference: &Difference) -> Result<Option<Mode>, SettleError> {
        let settled = self.settle_all(host, difference);
        // A difference is of no use, and a copy is not complete, when the work is cancelled meanwhile.
        if self.cancel.is_cancelled() { Err(SettleError::Cancelled) } else { settled }
    }

    fn settle_all(&mut self, host: usize, difference: &Difference) -> Result<Option<Mode>, SettleError> {
        let stack = self.stack;
        let found = self.find(host, difference);
        self.clear(host, &found)?;
        let root = self.stages[host].root().and_then(|root| rustix::io::fcntl_dupfd_cloexec(root, 0));
        let root = root.map_err(trying("open it")).map_err(of(LayerPath::root))?;
        let mut walk = Descent::new(root);
        let mut levels = vec![Level { entry: 0, nested_whiteouts: false, more_whiteouts: false }];
        for (index, entry) in difference.entries().iter().enumerate().skip(1) {
            if self.cancel.is_cancelled() {
                return Err(SettleError::Cancelled);
            }
            while levels.last().is_some_and(|level| level.entry != entry.parent()) {
                self.leave(&mut walk, &mut levels, difference)?;
            }
            let entered = self
                .place(host, difference, index, &found, walk.here(), levels.last_mut())
                .map_err(of(|| stack.path(difference, index)))?;
            if let Some(directory) = entered {
                walk.enter(directory);
                levels.push(Level { entry: index, nested_whiteouts: false, more_whiteouts: false });
            }
        }
        while levels.len() > 1 {
            self.leave(&mut walk, &mut levels, difference)?;
        }
        self.finish_root(&walk, &levels[0], difference)
    }

    /// Compares the difference with what the stage has.
    fn find(&self, host: usize, difference: &Difference) -> Match {
        let stage = &self.stages[host];
        let names = &self.records[stage.layer()].names;
        let entries = difference.entries();
        let mut found = Match {
            directories: vec![None; entries.len()],
            kept: vec![false; names.len()],
            wanted: vec![false; stage.contents()],
        };
        found.directories[0] = Some(NameId::ROOT);
        found.kept[NameId::ROOT.index()] = true;
        for (index, entry) in entries.iter().enumerate().skip(1) {
            let parent = found.directories[entry.parent()];
            let here = parent.and_then(|parent| names.child(parent, self.stack.name(entry)));
            match entry.what {
                What::Directory { .. } => {
                    if let Some(name) = here.filter(|&name| stage.made(name) == Made::Directory) {
                        found.directories[index] = Some(name);
                        found.kept[name.index()] = true;
                    }
                }
                What::Leaf(inode) => {
                    if let (layer, Some(content)) = self.content(inode)
                        && layer == stage.layer()
                    {
                        found.wanted[content.0 as usize] = true;
                        if let Some(name) = here.filter(|&name| stage.made(name) == Made::File(content)) {
                            found.kept[name.index()] = true;
                        }
                    }
                }
                What::Whiteout => {}
            }
        }
        found
    }

    /// The stage of a layer, of which few besides the host's are open at the same time.
    pub(super) fn stage(&mut self, host: usize, layer: usize) -> &mut Staged {
        if layer != host && !self.open.contains(&layer) {
            self.open.push_back(layer);
            if self.open.len() > MOST_STAGES
                && let Some(oldest) = self.open.pop_front()
                && oldest != host
            {
                self.stages[oldest].close();
            }
        }
        &mut self.stages[layer]
    }

    /// Where the files are of a layer that was not read.
    pub(super) fn known(&self, layer: usize) -> Option<&Known> {
        self.known.get(layer).and_then(Option::as_ref)
    }

    pub(super) fn content(&self, inode: InodeId) -> (usize, Option<ContentId>) {
        let (layer, change) = self.stack.origin(inode);
        match change.kind {
            ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } => (layer, Some(content)),
            _ => (layer, None),
        }
    }

    /// Takes everything out of the way that does not belong where it is.
    fn clear(&mut self, host: usize, found: &Match) -> Result<(), SettleError> {
        let stage = &mut self.stages[host];
        let names = &self.records[stage.layer()].names;
        for name in names.ids().rev().filter(|name| !found.kept[name.index()]) {
            if self.cancel.is_cancelled() {
                return Err(SettleError::Cancelled);
            }
            let result = match stage.made(name) {
                Made::Nothing => Ok(()),
                Made::Directory => stage.remove_directory(names, name),
                Made::File(content) if found.wanted[content.0 as usize] => stage.spill_content(names, content),
                Made::File(content) => stage.remove_content(names, content),
            };
            result.map_err(trying("move it")).map_err(of(|| names.path(name)))?;
        }
        Ok(())
    }

    /// Brings one entry in; returns the directory to enter if it is one.
    fn place(
        &mut self,
        host: usize,
        difference: &Difference,
        index: usize,
        found: &Match,
        here: BorrowedFd<'_>,
        level: Option<&mut Level>,
    ) -> Result<Option<OwnedFd>, StageError> {
        let stack = self.stack;
        let entry = &difference.entries()[index];
        let path = || stack.path(difference, index);
        let name = OsStr::from_bytes(stack.name(entry));
        match entry.what {
            What::Directory { .. } => {
                if found.directories[index].is_none() {
                    rustix::fs::mkdirat(here, name, Mode::RWXU).map_err(trying("create it"))?;
                }
                open_directory(here, name.as_bytes()).map(Some).map_err(trying("open it"))
            }
            What::Whiteout => {
                whiteout(here, name).map_err(trying("write its whiteout"))?;
                Ok(None)
            }
            What::Leaf(inode) => {
                if self.finish != Finish::Flat && entry.over == Over::Same {
                    self.copies.file(self.stages[host].layer())?;
                }
                let parent = found.directories[entry.parent()];
                let lost = self.leaf(host, inode, parent, here, name, &path)?;
                if let (Some(lost), Some(level)) = (lost, level) {
                    level.nested_whiteouts |= lost == Lost::WhiteoutDevice;
                    if lost == Lost::Device && entry.over == Over::Other && self.finish != Finish::Flat {
                        whiteout(here, name).map_err(trying("write a whiteout in its place"))?;
                        level.more_whiteouts = true;
                    }
                }
                Ok(None)
            }
        }
    }

    fn leaf(
        &mut self,
        host: usize,
        inode: InodeId,
        parent: Option<NameId>,
        here: BorrowedFd<'_>,
        name: &OsStr,
        path: &dyn Fn() -> LayerPath,
    ) -> Result<Option<Lost>, StageError> {
        let (layer, content) = self.content(inode);
        let is_shared = self.stack.is_linked(inode) || self.known(layer).is_some();
        let lost = if is_shared { self.share(host, inode)? } else { None };
        if lost == Some(Lost::Device) {
            return Ok(lost);
        }
        if let (Some(content), Some(parent)) = (content, parent)
            && layer == self.stages[host].layer()
        {
            let names = &self.records[layer].names;
            let child = names.child(parent, name.as_bytes());
            if child.is_some_and(|child| self.stages[host].made(child) == Made::File(content)) {
                return Ok(None);
            }
        }
        if is_shared {
            return self.link(inode, here, name, path).map(|()| lost);
        }
        match content {
            Some(content) => {
                let names = &self.records[layer].names;
                let stage = self.stage(host, layer);
                stage.move_content(names, content, here, name).map_err(trying("move it"))?;
                Ok(None)
            }
            None => self.make(inode, here, name).map_err(trying("create it")),
        }
    }

    /// Makes a file that has no content: symlink, device, FIFO.
    pub(super) fn make(&mut self, inode: InodeId, here: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Lost>, Errno> {
        let (layer, change) = self.stack.origin(inode);
        let Some(attributes) = change.kind.attributes() else {
            return Err(Errno::INVAL);
        };
        let path = || self.records[layer].names.path(change.name);
        let mode = Mode::RUSR | Mode::WUSR;
        let mut symlink = false;
        match &change.kind {
            ChangeKind::Symlink { target, .. } => {
                symlink = true;
                rustix::fs::symlinkat(OsStr::from_bytes(target), here, name)?;
            }
            ChangeKind::Fifo(_) => rustix::fs::mknodat(here, name, FileType::Fifo, mode, 0)?,
            kind @ ChangeKind::Device { .. } if kind.is_whiteout_device() && self.finish != Finish::Flat => {
                return self.make_nested_whiteout(attributes, &path, here, name).map(Some);
            }
            ChangeKind::Device { kind, major, minor, .. } => {
                let file_type = match kind {
                    DeviceKind::Character => FileType::CharacterDevice,
                    DeviceKind::Block => FileType::BlockDevice,
                };
                match rustix::fs::mknodat(here, name, file_type, mode, makedev(*major, *minor)) {
                    Ok(()) => {}
                    Err(Errno::PERM) => {
                        self.losses.add(LossKind::Device, "not permitted", path);
                        return Ok(Some(Lost::Device));
                    }
                    Err(error) => return Err(error),
                }
            }
            _ => return Err(Errno::INVAL),
        }
        let subject = Subject::Named { directory: here, name, symlink };
        self.capabilities.set(subject, attributes, &path, &mut self.losses)?;
        Ok(None)
    }

    /// Rule A6: overlayfs takes a device 0:0 for a whiteout, so it is written as the kernel would show one of a nested
    /// overlay.
    fn make_nested_whiteout(
        &mut self,
        attributes: &Attributes,
        path: &dyn Fn() -> LayerPath,
        here: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Lost, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = crate::fs::openat(here, name, flags, Mode::RUSR | Mode::WUSR)?;
        if let Finish::Overlay(namespace) = self.finish {
            let (mark, value) = namespace.attribute(Attribute::NestedWhiteout);
            Subject::Open(file.as_fd()).set_xattr(mark.as_bytes(), value)?;
        }
        self.losses.add(LossKind::WhiteoutDevice, "", path);
        self.capabilities.set(Subject::Open(file.as_fd()), attributes, path, &mut self.losses)?;
        Ok(Lost::WhiteoutDevice)
    }

    /// Goes up one directory and finishes the one that was left.
    fn leave(
        &mut self,
        walk: &mut Descent,
        levels: &mut Vec<Level>,
        difference: &Difference,
    ) -> Result<(), SettleError> {
        let Some(level) = levels.pop() else {
            return Ok(());
        };
        let index = level.entry;
        let entry = &difference.entries()[index];
        let stack = self.stack;
        let directory = walk.leave();
        directory
            .and_then(|directory| {
                self.mark(directory.as_fd(), entry, &level)?;
                let attributes = self.directory_attributes(entry);
                let path = || stack.path(difference, index);
                self.capabilities.set(Subject::Open(directory.as_fd()), &attributes, &path, &mut self.losses)
            })
            .map_err(trying("set its attributes"))
            .map_err(of(|| stack.path(difference, index)))
    }

    fn finish_root(
        &mut self,
        walk: &Descent,
        level: &Level,
        difference: &Difference,
    ) -> Result<Option<Mode>, SettleError> {
        let Some(entry) = difference.entries().first() else {
            return Ok(None);
        };
        let failed = |error| of(LayerPath::root)(trying("set its attributes")(error));
        self.mark(walk.here(), entry, level).map_err(failed)?;
        let attributes = self.directory_attributes(entry);
        let set = self.capabilities.set(Subject::Open(walk.here()), &attributes, &LayerPath::root, &mut self.losses);
        set.map_err(failed)?;
        // A directory can only be renamed by an ordinary user who may write to it.
        let stat = rustix::fs::fstat(walk.here()).map_err(failed)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if mode.contains(Mode::RWXU) {
            return Ok(None);
        }
        rustix::fs::fchmod(walk.here(), mode | Mode::RWXU).map_err(failed)?;
        Ok(Some(mode))
    }

    fn directory_attributes(&self, entry: &LayerEntry) -> Attributes {
        match entry.what {
            What::Directory { attributes, .. } => self.stack.directory_attributes(attributes).into_owned(),
            _ => Attributes::of_unnamed_directory(),
        }
    }

    /// Writes what overlayfs must know of a directory (rules O1 and O2).
    fn mark(&self, directory: BorrowedFd<'_>, entry: &LayerEntry, level: &Level) -> Result<(), Errno> {
        let (Finish::Overlay(namespace), What::Directory { opaque, holds_whiteouts, .. }) = (self.finish, entry.what)
        else {
            return Ok(());
        };
        let set = |attribute| {
            let (name, value) = namespace.attribute(attribute);
            Subject::Open(directory).set_xattr(name.as_bytes(), value)
        };
        if opaque {
            set(Attribute::Opaque)?;
        }
        if holds_whiteouts || level.more_whiteouts {
            set(Attribute::HoldsWhiteouts)?;
        }
        if level.nested_whiteouts {
            set(Attribute::HoldsNestedWhiteouts)?;
        }
        Ok(())
    }
}

/// What a file became that could not be made as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nothing.
    Device,
    /// A whiteout for an overlay on top of the overlay.
    WhiteoutDevice,
}

fn whiteout(here: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::mknodat(here, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// The layer whose stage has the most files: the fewest have to be moved into its directory.
pub(crate) fn fullest(stages: &[Staged]) -> Option<usize> {
    (0..stages.len()).max_by_key(|&index| (stages[index].held(), std::cmp::Reverse(index)))
}
