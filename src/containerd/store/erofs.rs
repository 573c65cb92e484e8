//! Layers that are not unpacked: their contents in one file, the tree in an EROFS image over that, which is mounted when it is needed.
//!
//! ```text
//! snapshots/N/contents/    what Apply leaves of a layer: its content file, its record, and where contents lie
//! snapshots/N/image/       what Commit makes of that and of what lies below: the EROFS image, and which files it has need of
//! snapshots/N/whole/       the same of all layers up to this one, where there are 128, 256, and so on
//! mnt/                     a tmpfs, which is gone after a restart of the machine with all that is mounted in it
//! mnt/N/fs                 where the image is mounted: the lower directory
//! mnt/N/work               as beside the directory of any other snapshot
//! ```
//!
//! The tmpfs is there so that whoever does not see our mounts finds no directory at all, and never one that is empty.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::document::{self, Kind, Usage};
use super::recent::Known;
use super::seen::{Seer, device_of};
use super::settle::is_there;
use super::usage;
use super::{Snapshot, Store, StoreError, UPPER, WORK, number, remove_in};
use crate::core::cancel::Cancel;
use crate::core::chain::Context;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Attributes;
use crate::fs::{check_guarded, open_path};
use crate::metadata::{Beneath, LayerImage, Lowers, layer_image, probe_files, whole_image};
use crate::mount::{ErofsRequest, MountOptions, is_mount_point, umount};
use crate::unpack::{Options, Owners, Settled, set_root};

/// A layer's content file, with what is known of it.
pub(super) const CONTENTS: &str = "contents";
/// Its EROFS image.
const IMAGE: &str = "image";
/// That of it and of all layers below.
const WHOLE: &str = "whole";
/// After so many layers there is one of all: however long a chain is, what is mounted fits into mount(2)'s page of options, of which containerd has need,
/// and is less than the 500 lower directories that the kernel takes. Images for Docker's own storage drivers have at most 125 layers.
const LAYERS_UNTIL_WHOLE: usize = 128;
/// A directory that is put in the place of another one.
const NEW_UPPER: &str = "fs.new";
/// Where images are mounted.
pub(super) const MOUNTS: &str = "mnt";
/// How the keys begin by which containerd's clients, BuildKit's among them, make the snapshots that they unpack layers of images into
/// (containerd's core/unpack and rootfs.ApplyLayer). Only these are never mounted before they are committed.
const EXTRACTED: &str = "extract-";

/// How layers are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// Unpacked, as directories.
    #[default]
    Overlay,
    /// As EROFS images over their contents.
    Erofs,
}

impl Backend {
    /// Whether a layer that is unpacked into a snapshot by this key is kept without being unpacked. Keys come as `NAMESPACE/NUMBER/KEY`.
    pub(super) fn is_erofs_of(self, key: &str) -> bool {
        self == Self::Erofs && key.splitn(3, '/').last().is_some_and(|key| key.starts_with(EXTRACTED))
    }
}

/// Whether the kernel mounts images that lie in this directory.
pub(super) fn check(root: &Path) -> io::Result<()> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
        io::Error::other(Context::new(
            "layers cannot be kept as EROFS images here, only as directories (backend overlay)",
            error,
        ))
    };
    check_guarded(root).map_err(|error| unusable(error.into()))?;
    probe_files(root).map_err(|error| unusable(error.into()))
}

impl Store {
    /// Whether a layer was unpacked into a snapshot that is kept as its contents.
    pub(super) fn has_contents(&self, number: u64) -> bool {
        is_there(&self.directory(number).join(CONTENTS))
    }

    /// Makes the EROFS image of a layer whose contents are there, and gives its snapshot's directory the attributes of the root; nothing, if there are no
    /// contents. It may be done again. The snapshot's turn must be held.
    pub(super) fn make_image(
        &self,
        number: u64,
        below: &[Snapshot],
        cancel: &Cancel,
    ) -> Result<Option<Imaged>, StoreError> {
        if !self.has_contents(number) {
            return Ok(None);
        }
        let directory = self.directory(number);
        let io = |error: io::Error| StoreError::io(format!("cannot finish {directory:?}"), error);
        if !self.is_untouched(number) {
            return Err(StoreError::Precondition(format!("{directory:?}: something was written beside the layer")));
        }
        let contents = directory.join(CONTENTS);
        // Apply has not waited for the disk.
        let synced = open_path(&contents).and_then(|contents| self.durability.sync_tree(contents));
        synced.map_err(|error| io(error.into()))?;
        let options = self.options(cancel);
        let known = below.first().and_then(|parent| self.recent().take_images(parent.number));
        let lowers = known.map_or_else(|| self.read_lowers(below, &options), Ok)?;
        let (made, mut lowers) = layer_image(&contents, lowers, &directory.join(IMAGE), &options)?;
        let LayerImage { has_changes, root, not_kept } = made;
        // As a commit on something else may have left it, that was interrupted.
        remove_in(&directory, WHOLE).map_err(|error| io(error.into()))?;
        let has_whole = match lowers.layers() {
            Some(layers) if layers.is_multiple_of(LAYERS_UNTIL_WHOLE) => {
                match whole_image(&mut lowers, &directory.join(WHOLE), &options) {
                    // Each alone fits into an image, and all together do not.
                    Err(error) if error.is_unavailable() => false,
                    made => made.map(|()| true)?,
                }
            }
            _ => false,
        };
        self.renew_root(&directory, &root).map_err(io)?;
        document::sync(&directory, self.durability).map_err(io)?;
        // What was read from disk is not known so well.
        if lowers.layers().is_some() {
            self.recent().keep(number, Known::Images(lowers));
        }
        Ok(Some(Imaged { settled: Settled { has_changes, not_kept }, has_whole }))
    }

    /// Puts a directory with these attributes, and with no others, in the place of a snapshot's, which has nothing in it.
    fn renew_root(&self, directory: &Path, attributes: &Attributes) -> io::Result<()> {
        remove_in(directory, NEW_UPPER)?;
        let made = directory.join(NEW_UPPER);
        DirBuilder::new().mode(0o700).create(&made)?;
        set_root(open_path(&made)?, attributes, XattrNamespace::Trusted, Owners::AsTheyAre)?;
        self.durability.sync(open_path(&made)?)?;
        fs::rename(made, directory.join(UPPER))
    }

    /// What lies below, the topmost first: contents of layers down to the first that is a directory, which is read from disk with all below it.
    fn read_lowers(&self, below: &[Snapshot], options: &Options) -> Result<Lowers, StoreError> {
        let known = below.iter().take_while(|snapshot| snapshot.document.is_erofs).count();
        let contents = |snapshot: &Snapshot| self.directory(snapshot.number).join(CONTENTS);
        let beneath = Beneath {
            lower: self.lower_directories(&below[known..])?,
            contents: below[..known].iter().rev().map(contents).collect(),
        };
        Ok(Lowers::read(&beneath, options)?)
    }

    /// What a committed snapshot takes of the disk.
    pub(super) fn usage_of(&self, number: u64) -> rustix::io::Result<Usage> {
        let directory = self.directory(number);
        let mut all = usage::of(&directory.join(UPPER))?;
        for part in [CONTENTS, IMAGE, WHOLE].map(|name| directory.join(name)).iter().filter(|part| is_there(part)) {
            let usage = usage::of(part)?;
            all = Usage { size: all.size + usage.size, inodes: all.inodes + usage.inodes };
        }
        Ok(all)
    }

    /// The lower directory that a committed snapshot is. Where it is an image, [`show`](Self::show) mounts that.
    pub(super) fn lower_directory(&self, snapshot: &Snapshot) -> PathBuf {
        match has_image(snapshot) {
            true => self.mounts_of(snapshot.number).join(UPPER),
            false => self.directory(snapshot.number).join(UPPER),
        }
    }

    /// The lower directories that these are together, with all images mounted.
    pub(super) fn lower_directories(&self, snapshots: &[Snapshot]) -> Result<Vec<PathBuf>, StoreError> {
        let snapshots = needed(snapshots);
        self.show(snapshots, &Seer::default())?;
        Ok(snapshots.iter().map(|snapshot| self.lower_directory(snapshot)).collect())
    }

    /// Mounts the images of snapshots that are not mounted, and checks that who asks sees them.
    pub(super) fn show(&self, snapshots: &[Snapshot], seer: &Seer) -> Result<(), StoreError> {
        let images: Vec<&Snapshot> = snapshots.iter().filter(|snapshot| has_image(snapshot)).collect();
        if images.is_empty() {
            return Ok(());
        }
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| StoreError::io(format!("cannot mount in {:?}", self.mounts_directory()), error);
        self.make_mounts_directory().map_err(failed)?;
        let mut devices = Vec::new();
        for snapshot in images {
            let place = self.mounts_of(snapshot.number);
            let target = place.join(UPPER);
            if !is_mount_point(&target) {
                let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
                make(&target).and_then(|()| make(&place.join(WORK))).map_err(failed)?;
                let image = if snapshot.document.has_whole { WHOLE } else { IMAGE };
                ErofsRequest::of_layout(&self.directory(snapshot.number).join(image), MountOptions::default())
                    .and_then(|request| request.mount_from_files(&target))
                    .map_err(|error| failed(io::Error::other(error)))?;
            }
            devices.push(device_of(&target).map_err(failed)?);
        }
        seer.check(&devices).map_err(StoreError::Precondition)
    }

    fn mounts_directory(&self) -> PathBuf {
        self.root.join(MOUNTS)
    }

    /// Where the image of a snapshot is mounted, as the directory of any other.
    fn mounts_of(&self, number: u64) -> PathBuf {
        self.mounts_directory().join(number.to_string())
    }

    fn make_mounts_directory(&self) -> io::Result<()> {
        let directory = self.mounts_directory();
        if !is_mount_point(&directory) {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount("layflat", &directory, "tmpfs", flags, c"mode=0700,size=4m")?;
        }
        Ok(())
    }

    /// Unmounts the image of a snapshot, if it is mounted. What uses it goes on to see it.
    pub(super) fn hide(&self, number: u64) -> io::Result<()> {
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        self.hide_now(number)
    }

    fn hide_now(&self, number: u64) -> io::Result<()> {
        let place = self.mounts_of(number);
        let target = place.join(UPPER);
        if is_mount_point(&target) {
            umount(&target, true).map_err(io::Error::other)?;
        }
        for path in [target, place.join(WORK), place] {
            match fs::remove_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Unmounts the images that no active snapshot and no view is on: each mount is one more for all who look at the machine's.
    pub(super) fn hide_unused(&self) -> io::Result<()> {
        let mounted = match fs::read_dir(self.mounts_directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            mounted => mounted?,
        };
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.state().used();
        for entry in mounted {
            if let Some(number) = number(&entry?.path()).filter(|number| !used.contains(number)) {
                self.hide_now(number)?;
            }
        }
        Ok(())
    }

    /// Removes a directory of snapshots that no document is in, and unmounts its image.
    pub(super) fn remove_directory(&self, number: u64) -> rustix::io::Result<()> {
        // The number may be another snapshot's afterwards.
        self.hide(number).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::BUSY))?;
        remove_in(&self.root.join(super::SNAPSHOTS), &number.to_string())
    }
}

impl super::State {
    /// The numbers of all that lies below what may be mounted.
    fn used(&self) -> std::collections::BTreeSet<u64> {
        let mut used = std::collections::BTreeSet::new();
        for snapshot in self.snapshots.values().filter(|snapshot| snapshot.document.kind != Kind::Committed) {
            let pending = snapshot.pending_parent.as_deref().unwrap_or(&snapshot.document.parent);
            let mut below = self.snapshots.get(pending);
            // What is below one that was seen was seen with it.
            while let Some(snapshot) = below.filter(|snapshot| used.insert(snapshot.number)) {
                below = self.snapshots.get(&snapshot.document.parent).filter(|_| !snapshot.document.has_whole);
            }
        }
        used
    }
}

/// What became of a layer that is kept as its contents.
#[derive(Debug)]
pub(super) struct Imaged {
    pub(super) settled: Settled,
    /// Whether there is an image of all layers up to it.
    pub(super) has_whole: bool,
}

/// What is mounted of a chain, the topmost first: down to the first that has an image of all below it.
pub(super) fn needed(chain: &[Snapshot]) -> &[Snapshot] {
    let whole = chain.iter().position(|snapshot| snapshot.document.has_whole);
    &chain[..whole.map_or(chain.len(), |whole| whole + 1)]
}

/// Whether a committed snapshot adds nothing to what those below show.
pub(super) fn is_left_out(snapshot: &Snapshot) -> bool {
    snapshot.document.is_empty && !snapshot.document.has_whole
}

/// Whether a committed snapshot is an image: one that shows nothing is its directory, which is empty.
pub(super) fn has_image(snapshot: &Snapshot) -> bool {
    snapshot.document.is_erofs && !is_left_out(snapshot)
}
