//! Writes a layer's files to disk while the layer is read.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use hashbrown::HashMap;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Capabilities;
use super::finisher::{self, Finisher, Unfinished, write_at};
use crate::core::layer::{Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::fs::open_directory;
use crate::unpack::{LossKind, Losses, TooManyCopies};

/// Why a file cannot be as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The kernel refused it.
    #[error("cannot {action}{}", remedy(error))]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// What it says.
        #[source]
        error: std::io::Error,
    },
    /// More copies of files of lower layers than the image may ask for.
    #[error("cannot copy it from a lower layer")]
    CopyUp(#[from] TooManyCopies),
}

/// What to do, where the error does not say it.
fn remedy(error: &std::io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        // Names of files are copied where there are too many; of directories there is no copy.
        Some(Errno::MLINK) => {
            ", since the file system holds no more directories in one: use another one, or a tar archive"
        }
        _ => "",
    }
}

/// For `map_err`: what was tried when the kernel refused.
pub(crate) fn trying(action: &'static str) -> impl FnOnce(Errno) -> StageError {
    move |error| StageError::Kernel { action, error: error.into() }
}

/// Where the content of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Whereabouts {
    /// In the stage, under its name.
    Named(NameId),
    /// In the directory of spilled files.
    Spilled,
    /// Moved to its place, or removed.
    Gone,
}

/// What is at a name in the stage's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Made {
    Nothing,
    Directory,
    File(ContentId),
}

/// The directory for files that cannot be at their names yet, shared by all stages of one image.
#[derive(Debug, Clone)]
pub(crate) struct Spill(Arc<OwnedFd>);

impl Spill {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(Arc::new(directory))
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What a layer's content is called there.
    pub(crate) fn content_name(layer: usize, content: ContentId) -> String {
        format!("{layer}-{}", content.0)
    }
}

/// Where a stage's directory is. It is not kept open: an image may have more layers than a process may have handles.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    parent: Arc<OwnedFd>,
    name: String,
}

impl Home {
    pub(crate) fn new(parent: &Arc<OwnedFd>, name: String) -> Self {
        Self { parent: Arc::clone(parent), name }
    }
}

/// A layer's directory, and what of the layer is in it.
#[derive(Debug)]
pub(crate) struct Staged {
    layer: usize,
    /// The layer's number in the names of spilled files.
    spilled_as: usize,
    home: Home,
    /// While it is open.
    root: Option<OwnedFd>,
    spill: Spill,
    made: Vec<Made>,
    contents: Vec<Whereabouts>,
    open: OpenDirectories,
}

/// What of a layer is in its directory and among the spilled files, for who keeps them to settle them later.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Inventory {
    spilled_as: usize,
    made: Vec<Made>,
    contents: Vec<Whereabouts>,
}

/// Handles of directories by name, the latest ones.
#[derive(Debug)]
struct OpenDirectories {
    handles: HashMap<NameId, OwnedFd>,
    order: VecDeque<NameId>,
    most: usize,
}

/// Writes a layer's files into its directory, with all their attributes.
#[derive(Debug)]
pub(crate) struct Stage {
    staged: Staged,
    capabilities: Capabilities,
    losses: Losses<NameId>,
    writing: Option<Writing>,
    finisher: Option<Finisher>,
}

/// A file whose content comes.
#[derive(Debug)]
struct Writing {
    file: Unfinished,
    /// Whether its content is gathered for the thread.
    gathered: bool,
    /// The end of what was written, or gathered; a hole may follow.
    written: u64,
}

impl Stage {
    /// A stage in an empty directory that is ours alone. `ahead`: small files may be finished by a thread of its own.
    pub(crate) fn new(
        layer: usize,
        home: Home,
        spill: Spill,
        capabilities: Capabilities,
        most_open: usize,
        ahead: bool,
    ) -> Self {
        let inventory = Inventory { spilled_as: layer, ..Inventory::nothing() };
        let staged = Staged::of(inventory, layer, home, spill, most_open);
        let finisher = ahead.then(|| Finisher::start(capabilities.clone(), most_open)).flatten();
        Self { staged, capabilities, losses: Losses::default(), writing: None, finisher }
    }

    /// When the layer is read: what was written, and what could not be kept.
    pub(crate) fn into_staged(self) -> (Staged, Losses<NameId>) {
        (self.staged, self.losses)
    }

    /// The thread has stopped before its time: why.
    fn stopped(&mut self, name: NameId) -> Failure<StageError> {
        match self.finisher.take().map(Finisher::stop) {
            Some(Err(failure)) => failure,
            _ => Failure { name, error: trying("finish the file")(Errno::PIPE) },
        }
    }
}

impl Sink for Stage {
    type Error = StageError;

    fn begin(
        &mut self,
        names: &Names,
        name: NameId,
        attributes: &Attributes,
        size: u64,
        place: Place,
    ) -> Result<ContentId, Failure<StageError>> {
        let content = ContentId(self.staged.contents.len() as u32);
        let mode = self.capabilities.creation_mode(attributes);
        let file = (self.staged.create(names, name, content, place, mode))
            .map_err(|error| Failure { name, error: trying("create the file")(error) })?;
        let gathered = self.finisher.is_some() && Finisher::takes(size);
        self.writing = Some(Writing { file: Unfinished { name, file, mode, size }, gathered, written: 0 });
        Ok(content)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<StageError>> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let name = writing.file.name;
        let failed = |error| Failure { name, error };
        if writing.gathered
            && let Some(finisher) = &mut self.finisher
        {
            if offset == writing.written {
                finisher.content(bytes);
                writing.written += bytes.len() as u64;
                return Ok(());
            }
            // A hole: this one is written here.
            writing.gathered = false;
            write_at(writing.file.file.as_fd(), 0, &finisher.take_content()).map_err(failed)?;
        }
        write_at(writing.file.file.as_fd(), offset, bytes).map_err(failed)?;
        writing.written = offset + bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self, attributes: &Attributes) -> Result<(), Failure<StageError>> {
        let Some(Writing { file, gathered, written }) = self.writing.take() else {
            return Ok(());
        };
        let name = file.name;
        match &mut self.finisher {
            Some(finisher) if gathered => {
                if finisher.take(file, attributes) {
                    Ok(())
                } else {
                    Err(self.stopped(name))
                }
            }
            _ => finisher::set(&file, written, attributes, &self.capabilities, &mut self.losses)
                .map_err(|error| Failure { name, error }),
        }
    }

    fn finish(&mut self) -> Result<(), Failure<StageError>> {
        if let Some(finisher) = self.finisher.take() {
            self.losses.merge(finisher.stop()?);
        }
        self.staged.close();
        Ok(())
    }

    fn unkept(&mut self, name: NameId, unkept: Unkept) {
        self.losses.add(LossKind::Xattr, unkept.to_string(), || name);
    }
}

impl Inventory {
    /// Of an empty directory.
    pub(crate) fn nothing() -> Self {
        Self { spilled_as: 0, made: vec![Made::Directory], contents: Vec::new() }
    }
}

impl Staged {
    /// A stage that was kept, in these directories, of which `most_open` may be open.
    pub(crate) fn of(inventory: Inventory, layer: usize, home: Home, spill: Spill, most_open: usize) -> Self {
        let Inventory { spilled_as, made, contents } = inventory;
        let open = OpenDirectories::new(most_open);
        Self { layer, spilled_as, home, root: None, spill, made, contents, open }
    }

    /// What is where, to be kept with the directories.
    pub(crate) fn inventory(&self) -> Inventory {
        Inventory { spilled_as: self.spilled_as, made: self.made.clone(), contents: self.contents.clone() }
    }

    /// Which layer this is, from 0 at the bottom.
    pub(crate) fn layer(&self) -> usize {
        self.layer
    }

    /// The directory itself.
    pub(crate) fn root(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        let root = match self.root.take() {
            Some(root) => root,
            None => open_directory(&self.home.parent, self.home.name.as_bytes())?,
        };
        let root: &OwnedFd = self.root.insert(root);
        Ok(root.as_fd())
    }

    /// The directory was moved to here.
    pub(crate) fn moved(&mut self, home: Home) {
        self.home = home;
    }

    /// What is at a name.
    pub(crate) fn made(&self, name: NameId) -> Made {
        self.made.get(name.index()).copied().unwrap_or(Made::Nothing)
    }

    pub(crate) fn contents(&self) -> usize {
        self.contents.len()
    }

    /// How many of them are still in it.
    pub(crate) fn held(&self) -> usize {
        self.contents.iter().filter(|content| **content != Whereabouts::Gone).count()
    }

    /// The name that a content is at.
    pub(crate) fn name_of(&self, content: ContentId) -> Option<NameId> {
        match self.whereabouts(content) {
            Whereabouts::Named(name) => Some(name),
            Whereabouts::Spilled | Whereabouts::Gone => None,
        }
    }

    /// Closes all that is open, until it is needed again.
    pub(crate) fn close(&mut self) {
        self.open.close();
        self.root = None;
    }

    pub(crate) fn whereabouts(&self, content: ContentId) -> Whereabouts {
        self.contents[content.0 as usize]
    }

    /// An open directory of the stage, which must be there.
    pub(crate) fn directory(&mut self, names: &Names, name: NameId) -> Result<BorrowedFd<'_>, Errno> {
        self.root()?;
        if name != NameId::ROOT && !self.open.handles.contains_key(&name) {
            let mut missing = Vec::new();
            let mut at = name;
            while at != NameId::ROOT && !self.open.handles.contains_key(&at) {
                missing.push(at);
                at = names.parent(at);
            }
            while let Some(next) = missing.pop() {
                let parent = self.opened(names.parent(next))?;
                let handle = open_directory(parent, names.name(next))?;
                self.open.insert(next, handle);
            }
        }
        self.opened(name)
    }

    fn opened(&self, name: NameId) -> Result<BorrowedFd<'_>, Errno> {
        match self.open.handles.get(&name) {
            Some(handle) => Ok(handle.as_fd()),
            None if name == NameId::ROOT => self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF),
            None => Err(Errno::BADF),
        }
    }

    /// Makes the file for a content at its name, or, where something is in the way, among the spilled ones.
    fn create(
        &mut self,
        names: &Names,
        name: NameId,
        content: ContentId,
        place: Place,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let free = place == Place::Named && self.made(name) == Made::Nothing;
        if free && self.make_directory(names, names.parent(name))? {
            let parent = self.directory(names, names.parent(name))?;
            let file = crate::fs::openat(parent, OsStr::from_bytes(names.name(name)), flags, mode)?;
            self.set_made(name, Made::File(content));
            self.contents.push(Whereabouts::Named(name));
            return Ok(file);
        }
        let file = crate::fs::openat(
            self.spill.directory(),
            Spill::content_name(self.spilled_as, content).as_str(),
            flags,
            mode,
        )?;
        self.contents.push(Whereabouts::Spilled);
        Ok(file)
    }

    /// Makes a directory with all its parents; `false` if a file is in the way.
    fn make_directory(&mut self, names: &Names, name: NameId) -> Result<bool, Errno> {
        let mut missing = Vec::new();
        let mut at = name;
        loop {
            match self.made(at) {
                Made::Directory => break,
                Made::File(_) => return Ok(false),
                Made::Nothing => missing.push(at),
            }
            at = names.parent(at);
        }
        while let Some(next) = missing.pop() {
            let parent = self.directory(names, names.parent(next))?;
            rustix::fs::mkdirat(parent, OsStr::from_bytes(names.name(next)), Mode::RWXU)?;
            self.set_made(next, Made::Directory);
        }
        Ok(true)
    }

    fn set_made(&mut self, name: NameId, made: Made) {
        if self.made.len() <= name.index() {
            self.made.resize(name.index() + 1, Made::Nothing);
        }
        self.made[name.index()] = made;
    }

    /// Moves a content out of the way, to where it can be found whatever happens to its name.
    pub(crate) fn spill_content(&mut self, names: &Names, content: ContentId) -> Result<(), Errno> {
        if let Whereabouts::Named(name) = self.whereabouts(content) {
            let spill = self.spill.clone();
            let to = Spill::content_name(self.spilled_as, content);
            let parent = self.directory(names, names.parent(name))?;
            rustix::fs::renameat(parent, OsStr::from_bytes(names.name(name)), spill.directory(), to)?;
            self.contents[content.0 as usize] = Whereabouts::Spilled;
            self.set_made(name, Made::Nothing);
        }
        Ok(())
    }

    /// Removes a content that nobody wants.
    pub(crate) fn remove_content(&mut self, names: &Names, content: ContentId) -> Result<(), Errno> {
        match self.whereabouts(content) {
            Whereabouts::Named(name) => {
                let parent = self.directory(names, names.parent(name))?;
                rustix::fs::unlinkat(parent, OsStr::from_bytes(names.name(name)), AtFlags::empty())?;
                self.set_made(name, Made::Nothing);
            }
            Whereabouts::Spilled => {
                let name = Spill::content_name(self.spilled_as, content);
                rustix::fs::unlinkat(self.spill.directory(), name, AtFlags::empty())?;
            }
            Whereabouts::Gone => {}
        }
        self.contents[content.0 as usize] = Whereabouts::Gone;
        Ok(())
    }

    /// Removes a directory, which must be empty.
    pub(crate) fn remove_directory(&mut self, names: &Names, name: NameId) -> Result<(), Errno> {
        self.open.forget(name);
        let parent = self.directory(names, names.parent(name))?;
        rustix::fs::unlinkat(parent, OsStr::from_bytes(names.name(name)), AtFlags::REMOVEDIR)?;
        self.set_made(name, Made::Nothing);
        Ok(())
    }

    /// Moves a content to its place, in whatever directory that is.
    pub(crate) fn move_content(
        &mut self,
        names: &Names,
        content: ContentId,
        to: BorrowedFd<'_>,
        to_name: &OsStr,
    ) -> Result<(), Errno> {
        match self.whereabouts(content) {
            Whereabouts::Named(name) => {
                let parent = self.directory(names, names.parent(name))?;
                rustix::fs::renameat(parent, OsStr::from_bytes(names.name(name)), to, to_name)?;
                self.set_made(name, Made::Nothing);
            }
            Whereabouts::Spilled => {
                let from = Spill::content_name(self.spilled_as, content);
                rustix::fs::renameat(self.spill.directory(), from, to, to_name)?;
            }
            Whereabouts::Gone => return Err(Errno::NOENT),
        }
        self.contents[content.0 as usize] = Whereabouts::Gone;
        Ok(())
    }
}

impl OpenDirectories {
    /// Keeps at most that many, but not less than a directory and its parent.
    fn new(most: usize) -> Self {
        Self { handles: HashMap::new(), order: VecDeque::new(), most: most.max(2) }
    }

    fn close(&mut self) {
        self.handles.clear();
        self.order.clear();
    }

    fn insert(&mut self, name: NameId, handle: OwnedFd) {
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.handles.remove(&oldest);
        }
        self.handles.insert(name, handle);
        self.order.push_back(name);
    }

    fn forget(&mut self, name: NameId) {
        if self.handles.remove(&name).is_some() {
            self.order.retain(|&other| other != name);
        }
    }
}
