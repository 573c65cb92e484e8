//! Snapshots on disk: what containerd's snapshotters do, with layers as layflat unpacks them.
//!
//! ```text
//! lock                          locked as long as a process serves this directory
//! snapshots/N/snapshot.json     what the snapshot is; written last, and removed first
//! snapshots/N/fs/               its upper directory; a lower one, once it is committed
//! snapshots/N/work/             what overlayfs needs beside that
//! snapshots/N/top/              a directory with nothing but the attributes of fs/, the topmost of the mounts of views
//! snapshots/N/staged/           a layer that was read, and waits for what lies below it
//! snapshots/N/settling/         the same, while it is settled; if that was interrupted the snapshot is of no use
//! snapshots/N/layer-V           the record of a layer that was settled, for those on top
//! ```
//!
//! A directory without a document is not finished, or half removed: [`Store::clean`] removes it. So it does not matter at
//! which moment a process is killed. All documents are read at the start and kept in memory; each change is on disk before
//! it is answered.
//!
//! A container in a user namespace writes with the ids outside; what is below is mounted with an id map. When that is committed it
//! gets the ids inside, as all layers have them.
//!
//! Layers may be kept as EROFS images instead of directories: `erofs` has where.
//!
//! A layer is staged by Apply, whatever is below it, and settled when that is known for sure: by Commit, which may name the
//! parent, or before its first mount.
//!
//! A committed snapshot goes by the key that it was committed from as well, as long as containerd may not have heard of the commit.

mod document;
mod erofs;
mod error;
mod fit;
mod id_maps;
mod mounts;
mod recent;
mod seen;
mod settle;
mod unheard;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::contents::keep_layer;
use crate::core::cancel::Cancel;
use crate::core::idmap::{IdMapError, IdMaps};
use crate::core::limits::Limits;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::{Durability, Lock, open_path, remove_tree};
use crate::image::Layer;
use crate::unpack::{Error, LayerOver, Loss, Options, stage_layer};

use super::Settings;
pub(crate) use document::{Document, Kind, Usage};
pub use erofs::Backend;
pub(crate) use error::StoreError;
pub(crate) use mounts::{Mounted, is_root_as_made};
use recent::Recent;
pub(crate) use seen::Seer;

/// A snapshot's upper directory, in its own.
const UPPER: &str = "fs";
/// What overlayfs needs beside it.
const WORK: &str = "work";
/// A directory with nothing in it, and with its attributes.
const TOP: &str = "top";
/// The directory that has those of the snapshots.
const SNAPSHOTS: &str = "snapshots";

/// All snapshots under one directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    namespace: XattrNamespace,
    durability: Durability,
    limits: Limits,
    layer_jobs: Option<NonZero<usize>>,
    backend: Backend,
    /// Held by whoever mounts and unmounts; the state may be looked at meanwhile, but not the other way round.
    mounting: Mutex<()>,
    state: Mutex<State>,
    recent: Mutex<Recent>,
    _lock: Lock,
}

#[derive(Debug, Default)]
struct State {
    /// By name, or by key.
    snapshots: BTreeMap<String, Snapshot>,
    /// Names that are being committed to.
    reserved: BTreeSet<String>,
    /// Keys that snapshots were committed from of whose commit containerd may not have heard: their names.
    unheard: BTreeMap<String, String>,
    /// The number of the next one.
    next: u64,
}

#[derive(Debug, Clone)]
struct Snapshot {
    number: u64,
    document: Document,
    /// Not while it is being made, and not any more when it is being removed.
    is_ready: bool,
    /// What it is being committed on, which must not go meanwhile.
    pending_parent: Option<String>,
    /// Held by whoever changes what is in its directory.
    turn: Arc<Mutex<()>>,
}

/// What Commit has done.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) usage: Usage,
    /// Whether there was a layer to be settled.
    pub(crate) is_layer: bool,
    pub(crate) not_kept: Vec<Loss>,
}

/// A snapshot that a layer is to be unpacked into.
#[derive(Debug)]
pub(crate) struct Slot {
    directory: PathBuf,
    is_erofs: bool,
    turn: Arc<Mutex<()>>,
}

impl Slot {
    /// Unpacks a layer, as far as that can be done without what lies below it.
    ///
    /// # Errors
    /// As of [`stage_layer`].
    pub(crate) fn unpack(&self, layer: &Layer, options: &Options) -> Result<LayerOver, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (keep, here, other): (fn(&Layer, &Path, &Options) -> _, _, _) = match self.is_erofs {
            true => (keep_layer, erofs::CONTENTS, settle::STAGED),
            false => (stage_layer, settle::STAGED, erofs::CONTENTS),
        };
        // As another process may have left it, that was told otherwise.
        let _ = remove_in(&self.directory, other);
        keep(layer, &self.directory.join(here), options)
    }
}

impl Store {
    /// Opens what is in a directory, which is made if it is not there; for each snapshot that cannot be read, its directory
    /// and why.
    ///
    /// # Errors
    /// The directory cannot be used, or another process serves it.
    pub(crate) fn open(root: &Path, settings: &Settings) -> io::Result<(Self, Vec<(PathBuf, String)>)> {
        let Settings { backend, limits, layer_jobs, no_sync, .. } = *settings;
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&root.join(SNAPSHOTS))?;
        let root = root.canonicalize()?;
        if root.to_str().is_none_or(|root| root.contains([':', ',', '\\'])) {
            // Mount options are text, in which these stand for something else.
            return Err(io::Error::other("its path must be UTF-8, without colons, commas and backslashes"));
        }
        let lock = fs::File::create(root.join("lock"))?;
        let lock = Lock::take(lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => io::Error::other("another layflat-containerd serves it"),
            error => error.into(),
        })?;
        if backend == Backend::Erofs {
            erofs::check(&root)?;
        }
        let (mut state, mut unread) = (State::default(), Vec::new());
        for entry in fs::read_dir(root.join(SNAPSHOTS))? {
            let path = entry?.path();
            let Some(number) = number(&path) else { continue };
            state.next = state.next.max(number + 1);
            match Document::read(&path) {
                Ok(None) => {}
                Ok(Some(document)) => {
                    let snapshot = Snapshot { is_ready: true, ..Snapshot::new(number, document) };
                    state.snapshots.insert(snapshot.document.name.clone(), snapshot);
                }
                Err(problem) => unread.push((path, problem)),
            }
        }
        state.find_unheard();
        let namespace = match crate::userns::in_user_namespace() {
            true => XattrNamespace::User,
            false => XattrNamespace::Trusted,
        };
        let (state, recent) = (Mutex::new(state), Mutex::new(Recent::within(&limits)));
        let (durability, mounting) = (Durability::unless(no_sync), Mutex::default());
        let store =
            Self { root, namespace, durability, limits, layer_jobs, backend, mounting, state, recent, _lock: lock };
        Ok((store, unread))
    }

    /// How layers are unpacked here.
    pub(crate) fn options(&self, cancel: &Cancel) -> Options {
        Options {
            xattr_namespace: Some(self.namespace),
            no_sync: self.durability == Durability::Unsynced,
            jobs: self.layer_jobs,
            limits: self.limits,
            cancel: cancel.clone(),
            ..Options::default()
        }
    }

    /// Makes a snapshot, and says how it is mounted.
    pub(crate) fn prepare(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: BTreeMap<String, String>,
        seer: &Seer,
    ) -> Result<Vec<Mounted>, StoreError> {
        if key.is_empty() {
            return Err(StoreError::Invalid("a snapshot without a key".to_owned()));
        }
        let maps = id_maps::of_labels(&labels)?;
        let (snapshot, below, maps) = {
            let mut state = self.state();
            state.check_free(key)?;
            let below = state.chain(parent)?;
            // What is below may have the ids outside already.
            let maps = maps.filter(|_| !below.iter().any(|snapshot| snapshot.document.is_shifted));
            if maps.is_some() {
                id_maps::check_kernel(&rustix::system::uname().release().to_string_lossy())?;
                id_maps::check_layers(&below)?;
            }
            let number = state.next;
            state.next += 1;
            let id_maps = maps.as_ref().map(|maps| (maps.uids.to_string(), maps.gids.to_string()));
            let document = Document { id_maps, ..Document::new(key, parent, kind, labels) };
            let snapshot = Snapshot::new(number, document);
            state.done_with(key);
            state.heard(parent);
            state.snapshots.insert(key.to_owned(), snapshot.clone());
            (snapshot, below, maps)
        };
        let io = |error| StoreError::io(format!("cannot make {:?}", self.directory(snapshot.number)), error);
        let made = self.make(&snapshot, &below, maps).map_err(io);
        let made = made.and_then(|()| self.mounted(&snapshot, &below, seer));
        let mut state = self.state();
        match made {
            Ok(mounted) => {
                if let Some(own) = state.snapshots.get_mut(key) {
                    own.is_ready = true;
                }
                Ok(mounted)
            }
            Err(error) => {
                state.snapshots.remove(key);
                drop(state);
                self.discard(snapshot.number);
                Err(error)
            }
        }
    }

    fn make(&self, snapshot: &Snapshot, below: &[Snapshot], maps: Option<IdMaps>) -> io::Result<()> {
        let directory = self.directory(snapshot.number);
        DirBuilder::new().mode(0o700).create(&directory)?;
        let upper = directory.join(UPPER);
        DirBuilder::new().mode(0o755).create(&upper)?;
        if snapshot.document.kind == Kind::Active {
            // Overlayfs makes in it what it needs, as whoever mounts.
            DirBuilder::new().mode(0o711).create(directory.join(WORK))?;
        }
        if let Some(parent) = below.first() {
            let parent = self.directory(parent.number);
            mounts::copy_root(&parent.join(UPPER), &upper, self.namespace, maps)?;
            if snapshot.document.kind == Kind::View {
                self.give_top(&upper, &parent)?;
            }
        }
        snapshot.document.write(&directory, self.durability)?;
        document::sync(&self.root.join(SNAPSHOTS), self.durability)
    }

    /// Gives a committed snapshot the directory that is the topmost of its views, if it has none. It is not a view's own: a
    /// view may be removed while it is mounted, and must go on to show everything.
    fn give_top(&self, made: &Path, committed: &Path) -> io::Result<()> {
        match renameat_with(CWD, made, CWD, committed.join(TOP), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(()),
            renamed => {
                renamed?;
                document::sync(committed, self.durability)
            }
        }
    }

    /// How a snapshot is mounted. A layer that was staged in it is settled first.
    pub(crate) fn mounts(&self, key: &str, cancel: &Cancel, seer: &Seer) -> Result<Vec<Mounted>, StoreError> {
        self.reopen(key)?;
        let (snapshot, below) = {
            let state = self.state();
            let snapshot = state.get(key)?.clone();
            if snapshot.document.kind == Kind::Committed {
                return Err(StoreError::Precondition(format!("snapshot {key:?} is committed: it has no mounts")));
            }
            let below = state.chain(&snapshot.document.parent)?;
            (snapshot, below)
        };
        let _turn = snapshot.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.document.is_turning {
            return Err(StoreError::Precondition(format!(
                "the owners of what is in snapshot {key:?} were being changed when its commit was interrupted; commit it again"
            )));
        }
        if self.has_contents(snapshot.number) {
            return Err(StoreError::Precondition(format!(
                "the layer that was unpacked into snapshot {key:?} is to be an EROFS image: it can be committed, but not mounted before"
            )));
        }
        self.settle(snapshot.number, &below, cancel)?;
        self.mounted(&snapshot, &below, seer)
    }

    /// Where a layer for these directories is to be staged, if they are of an active snapshot that nothing was unpacked into.
    pub(crate) fn slot(&self, upper: &Path) -> Option<Slot> {
        let number = self.number_of(upper)?;
        let directory = self.directory(number);
        let state = self.state();
        let snapshot = state.snapshots.values().find(|snapshot| snapshot.number == number)?;
        let is_open = snapshot.is_ready && snapshot.document.kind == Kind::Active && self.is_untouched(number);
        let is_erofs = self.backend.is_erofs_of(&snapshot.document.name);
        is_open.then(|| Slot { directory, is_erofs, turn: Arc::clone(&snapshot.turn) })
    }

    /// The name, or the key, of the snapshot that has these files.
    pub(crate) fn name_of(&self, upper: &Path) -> Option<String> {
        let number = self.number_of(upper)?;
        let state = self.state();
        let mut snapshots = state.snapshots.iter();
        snapshots.find(|(_, snapshot)| snapshot.number == number).map(|(name, _)| name.clone())
    }

    /// The id maps of the user namespace in which the files of a snapshot are written, if they have the ids outside.
    pub(crate) fn id_maps_of(&self, upper: &Path) -> Option<IdMaps> {
        let number = self.number_of(upper)?;
        let state = self.state();
        let snapshot = state.snapshots.values().find(|snapshot| snapshot.number == number)?;
        let Document { kind, parent, labels, .. } = &snapshot.document;
        // Also where containerd has copied the image, and mounts nothing with a map.
        let is_outside = *kind == Kind::Active && !parent.is_empty();
        id_maps::of_labels(labels).ok().flatten().filter(|_| is_outside)
    }

    fn number_of(&self, upper: &Path) -> Option<u64> {
        let directory = upper.parent()?;
        let is_here = |name: &str| directory.parent() == Some(&self.root.join(name));
        let is_ours = upper.file_name()? == UPPER && [SNAPSHOTS, erofs::MOUNTS].into_iter().any(is_here);
        is_ours.then(|| number(directory)).flatten()
    }

    /// Makes an active snapshot one that others can be put on. With `parent` it is put on that, if it was prepared with
    /// none.
    pub(crate) fn commit(
        &self,
        name: &str,
        key: &str,
        parent: &str,
        labels: BTreeMap<String, String>,
        cancel: &Cancel,
    ) -> Result<Committed, StoreError> {
        if name.is_empty() {
            return Err(StoreError::Invalid("a snapshot without a name".to_owned()));
        }
        let turn = self.turn(key)?;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(committed) = self.commit_again(name, key, parent, &labels)? {
            return Ok(committed);
        }
        let (snapshot, parent, below) = {
            let mut state = self.state();
            state.check_free(name)?;
            let snapshot = state.get(key)?.clone();
            if snapshot.document.kind != Kind::Active {
                return Err(StoreError::Precondition(format!("snapshot {key:?} is not active")));
            }
            snapshot.document.check_parent(key, parent)?;
            let own = &snapshot.document.parent;
            let parent = if own.is_empty() { parent.to_owned() } else { own.clone() };
            let below = state.chain(&parent)?;
            state.heard(&parent);
            state.reserved.insert(name.to_owned());
            if let Some(own) = state.snapshots.get_mut(key) {
                own.pending_parent = Some(parent.clone());
            }
            (snapshot, parent, below)
        };
        let done = self.commit_on(&snapshot, name, &parent, &below, labels, cancel);
        let mut state = self.state();
        state.reserved.remove(name);
        match done {
            Ok((document, committed)) => {
                state.snapshots.remove(key);
                let snapshot = Snapshot { is_ready: true, ..Snapshot::new(snapshot.number, document) };
                state.snapshots.insert(name.to_owned(), snapshot);
                state.unheard.insert(key.to_owned(), name.to_owned());
                Ok(committed)
            }
            Err(error) => {
                if let Some(own) = state.snapshots.get_mut(key) {
                    own.pending_parent = None;
                }
                Err(error)
            }
        }
    }

    /// The snapshot's turn must be held.
    fn commit_on(
        &self,
        snapshot: &Snapshot,
        name: &str,
        parent: &str,
        below: &[Snapshot],
        labels: BTreeMap<String, String>,
        cancel: &Cancel,
    ) -> Result<(Document, Committed), StoreError> {
        let directory = self.directory(snapshot.number);
        let failed = |what: &str| {
            let what = format!("cannot {what} {directory:?}");
            move |error: io::Error| StoreError::io(what, error)
        };
        let image = self.make_image(snapshot.number, below, cancel)?;
        let has_whole = image.as_ref().map(|image| image.has_whole);
        let settled = match image {
            None => self.settle(snapshot.number, below, cancel)?,
            Some(image) => Some(image.settled),
        };
        if settled.is_none() {
            // Whoever had its mounts may have changed what was unpacked.
            self.forget_record(snapshot.number).map_err(failed("write"))?;
            self.turn_back(snapshot, below, cancel)?;
            // Whoever wrote it may not have waited for the disk.
            open_path(&directory)
                .and_then(|directory| self.durability.sync_tree(directory))
                .map_err(|error| failed("write to disk")(error.into()))?;
        }
        let usage = self.usage_of(snapshot.number).map_err(|error| failed("read")(error.into()))?;
        let is_empty = settled.as_ref().is_some_and(|settled| !settled.has_changes);
        let is_shifted =
            id_maps::is_copy(name, &snapshot.document.name) || below.iter().any(|below| below.document.is_shifted);
        let is_turning = snapshot.document.id_maps.is_some() && !below.is_empty();
        let before = Document { parent: parent.to_owned(), is_turning, ..snapshot.document.clone() };
        let committed = Document::new(name, parent, Kind::Committed, labels);
        let document = Document { usage, is_empty, is_shifted, before: Some(Box::new(before)), ..committed };
        let document = match has_whole {
            Some(has_whole) => document.of_image(has_whole),
            None => document,
        };
        document.write(&directory, self.durability).map_err(failed("write"))?;
        let is_layer = settled.is_some();
        let not_kept = settled.map(|settled| settled.not_kept).unwrap_or_default();
        Ok((document, Committed { usage, is_layer, not_kept }))
    }

    /// Gives what a container with id maps has written the ids that layers have. The snapshot's turn must be held.
    fn turn_back(&self, snapshot: &Snapshot, below: &[Snapshot], cancel: &Cancel) -> Result<(), StoreError> {
        let document = &snapshot.document;
        let Some((uids, gids)) = document.id_maps.as_ref().filter(|_| !below.is_empty()) else { return Ok(()) };
        let parsed = |map: &String| map.parse().map_err(|error: IdMapError| StoreError::Invalid(error.to_string()));
        let maps = IdMaps { uids: parsed(uids)?, gids: parsed(gids)? };
        let directory = self.directory(snapshot.number);
        if id_maps::overlap(&maps) {
            return Err(StoreError::Precondition(format!(
                "snapshot {:?} has the id maps {uids} and {gids}, in which an id outside is also one inside: make a layer of it (Diff)",
                document.name
            )));
        }
        if !document.is_turning {
            let turning = Document { is_turning: true, ..document.clone() };
            turning
                .write(&directory, self.durability)
                .map_err(|error| StoreError::io(format!("cannot write {directory:?}"), error))?;
            if let Some(own) = self.state().snapshots.get_mut(&document.name) {
                own.document = turning;
            }
        }
        Ok(id_maps::turn_back(&directory.join(UPPER), &maps, cancel)?)
    }

    /// What is known of a snapshot.
    pub(crate) fn stat(&self, key: &str) -> Result<Document, StoreError> {
        Ok(self.state().document(key)?.clone())
    }

    /// All that there are.
    pub(crate) fn list(&self) -> Vec<Document> {
        let state = self.state();
        let ready = state.snapshots.values().filter(|snapshot| snapshot.is_ready);
        ready.map(|snapshot| snapshot.document.clone()).collect()
    }

    /// Changes a snapshot's labels.
    pub(crate) fn relabel(
        &self,
        key: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<Document, StoreError> {
        self.reopen(key)?;
        let turn = self.turn(key)?;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Snapshot { number, mut document, .. } = self.state().get(key)?.clone();
        change(&mut document.labels);
        document.updated = SystemTime::now();
        let directory = self.directory(number);
        document
            .write(&directory, self.durability)
            .map_err(|error| StoreError::io(format!("cannot write {directory:?}"), error))?;
        if let Some(snapshot) = self.state().snapshots.get_mut(key) {
            snapshot.document = document.clone();
        }
        Ok(document)
    }

    /// What a snapshot takes of the disk, without those below.
    pub(crate) fn usage(&self, key: &str) -> Result<Usage, StoreError> {
        let snapshot = {
            let state = self.state();
            state.get(state.resolve(key))?.clone()
        };
        match snapshot.document.kind {
            Kind::Committed => Ok(snapshot.document.usage),
            Kind::View => Ok(Usage::default()),
            Kind::Active => {
                let directory = self.directory(snapshot.number);
                self.usage_of(snapshot.number)
                    .map_err(|error| StoreError::io(format!("cannot read {directory:?}"), error.into()))
            }
        }
    }

    /// Removes a snapshot that no other is on.
    pub(crate) fn remove(&self, key: &str) -> Result<(), StoreError> {
        // A layer that is being unpacked is waited for.
        let turn = self.turn(key)?;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.remove_name(key)? {
            return Ok(());
        }
        let snapshot = {
            let mut state = self.state();
            let snapshot = state.get(key)?.clone();
            if state.has_children(key) {
                return Err(StoreError::Precondition(format!("snapshot {key:?} has others on top of it")));
            }
            if let Some(own) = state.snapshots.get_mut(key) {
                own.is_ready = false;
            }
            snapshot
        };
        let directory = self.directory(snapshot.number);
        let forgotten = fs::remove_file(directory.join(document::DOCUMENT))
            .and_then(|()| document::sync(&directory, self.durability));
        let mut state = self.state();
        match forgotten {
            Ok(()) => {
                state.snapshots.remove(key);
                drop(state);
                self.discard(snapshot.number);
                // If not now, with the next one.
                let _ = self.hide_unused();
                Ok(())
            }
            Err(error) => {
                if let Some(own) = state.snapshots.get_mut(key) {
                    own.is_ready = true;
                }
                Err(StoreError::io(format!("cannot remove {directory:?}"), error))
            }
        }
    }

    /// Removes what is left of snapshots that were not finished, or not removed to the end; what could not be removed.
    pub(crate) fn clean(&self) -> io::Result<Vec<(PathBuf, Errno)>> {
        let mut kept = Vec::new();
        self.hide_unused()?;
        for entry in fs::read_dir(self.root.join(SNAPSHOTS))? {
            let path = entry?.path();
            let Some(number) = number(&path) else { continue };
            // Looked at under the lock: the number of one that is being made is known before there is a directory.
            let is_known = || self.state().snapshots.values().any(|snapshot| snapshot.number == number);
            if is_known() || path.join(document::DOCUMENT).symlink_metadata().is_ok() {
                continue;
            }
            if let Err(error) = self.remove_directory(number)
                // Whoever removes the snapshot may have been quicker.
                && path.symlink_metadata().is_ok()
            {
                kept.push((path, error));
            }
        }
        Ok(kept)
    }

    /// Removes a directory that no document is in. If that fails now, [`clean`](Self::clean) tries again.
    fn discard(&self, number: u64) {
        self.forget(number);
        let _ = self.remove_directory(number);
    }

    fn directory(&self, number: u64) -> PathBuf {
        self.root.join(SNAPSHOTS).join(number.to_string())
    }

    /// A snapshot's turn: it is taken before the state is looked at again, and never while that is locked.
    fn turn(&self, key: &str) -> Result<Arc<Mutex<()>>, StoreError> {
        let state = self.state();
        Ok(Arc::clone(&state.get(state.resolve(key))?.turn))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    fn new(number: u64, document: Document) -> Self {
        Self { number, document, is_ready: false, pending_parent: None, turn: Arc::default() }
    }
}

impl State {
    fn get(&self, key: &str) -> Result<&Snapshot, StoreError> {
        let snapshot = self.snapshots.get(key).filter(|snapshot| snapshot.is_ready);
        snapshot.ok_or_else(|| StoreError::Missing(format!("snapshot {key:?} does not exist")))
    }

    fn check_free(&self, name: &str) -> Result<(), StoreError> {
        match self.snapshots.contains_key(name) || self.reserved.contains(name) {
            true => Err(StoreError::Exists(format!("snapshot {name:?} exists"))),
            false => Ok(()),
        }
    }

    /// A committed snapshot and all below it, the topmost first; nothing for no name.
    fn chain(&self, name: &str) -> Result<Vec<Snapshot>, StoreError> {
        let mut chain = Vec::new();
        let mut at = name;
        while !at.is_empty() {
            let snapshot = self.get(at)?;
            if snapshot.document.kind != Kind::Committed {
                return Err(StoreError::Invalid(format!("the parent {at:?} is not committed")));
            }
            if chain.len() > self.snapshots.len() {
                return Err(StoreError::Precondition(format!("the parents of {name:?} are their own parents")));
            }
            chain.push(snapshot.clone());
            at = &snapshot.document.parent;
        }
        Ok(chain)
    }

    fn has_children(&self, name: &str) -> bool {
        self.snapshots
            .values()
            .any(|other| other.document.parent == name || other.pending_parent.as_deref() == Some(name))
    }
}

/// The number of a snapshot's directory.
fn number(directory: &Path) -> Option<u64> {
    directory.file_name()?.to_str()?.parse().ok()
}

/// Removes a directory in one of ours with all that is in it.
fn remove_in(parent: &Path, name: &str) -> rustix::io::Result<()> {
    remove_tree(open_path(parent)?, name.as_bytes())
}
