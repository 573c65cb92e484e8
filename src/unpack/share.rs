//! Hard links: each file with several names is made once among the spilled files, and linked to every name.
//!
//! A file system counts the names of a file, and some count only so far: 65,000 on ext4; others know but one. What it
//! counts no more gets a copy, to which the names that follow are linked, until that one is full, too. The copies are
//! reported (rule A4).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::settle::{Lost, Settler};
use crate::core::record::{Attributes, ChangeKind, LayerPath, NameId, Names};
use crate::core::stack::InodeId;
use crate::unpack::stage::{StageError, Subject, Whereabouts, copy_content, share_content, trying};
use crate::unpack::{LossKind, Losses};

/// A file that was made to be linked.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The layer whose directory it is for.
    for_layer: usize,
    /// How many copies of it were made in that directory before.
    copy: usize,
    place: Place,
    /// Why there are copies.
    reason: String,
    /// What became of it, if it could not be made as it should be.
    lost: Option<Lost>,
}

#[derive(Debug)]
enum Place {
    /// Among the spilled files.
    Spilled,
    /// It was full, and had to give up its name there to get its last one. What its content is read from, if it has
    /// any.
    Placed(Option<OwnedFd>),
}

impl Settler<'_, '_> {
    /// Makes sure that a file with several names is there, for this host to link.
    pub(super) fn share(&mut self, host: usize, inode: InodeId) -> Result<Option<Lost>, StageError> {
        let for_layer = self.stages[host].layer();
        let last = self.shared.remove(&inode);
        let shared = match last {
            Some(shared) if shared.for_layer == for_layer => shared,
            Some(below) => self.share_again(inode, &below, for_layer, 0)?,
            None => {
                let lost = self.share_first(host, inode)?;
                Shared { for_layer, copy: 0, place: Place::Spilled, reason: String::new(), lost }
            }
        };
        let lost = shared.lost;
        self.shared.insert(inode, shared);
        Ok(lost)
    }

    /// Puts a file among the spilled ones for the first time.
    fn share_first(&mut self, host: usize, inode: InodeId) -> Result<Option<Lost>, StageError> {
        let for_layer = self.stages[host].layer();
        let (layer, content) = self.content(inode);
        let to = shared_name(inode, for_layer, 0);
        let spill = self.spill.clone();
        let Some(content) = content else {
            return self.make(inode, spill.directory(), OsStr::new(&to)).map_err(trying("create it"));
        };
        if let Some(known) = self.known(layer) {
            let source = known.open(self.stack, layer, inode).map_err(trying("read it"))?;
            return self.copy_up(inode, source.as_fd(), &to, for_layer).map(|()| None);
        }
        let names = &self.records[layer].names;
        let stage = self.stage(host, layer);
        let moved = match stage.whereabouts(content) {
            Whereabouts::Named(name) if layer == for_layer => {
                let linked = stage
                    .directory(names, names.parent(name))
                    .and_then(|parent| link_to(parent, names, name, spill.directory(), &to));
                match linked {
                    // It finds its place again like any other.
                    Err(error) if is_full(error) => {
                        stage.move_content(names, content, spill.directory(), OsStr::new(&to))
                    }
                    linked => linked,
                }
            }
            _ => stage.move_content(names, content, spill.directory(), OsStr::new(&to)),
        };
        moved.map(|()| None).map_err(trying("link it"))
    }

    /// Makes a copy: of one in a lower layer's directory for the next one above (rule L2), or of one that can have no
    /// more names.
    fn share_again(
        &mut self,
        inode: InodeId,
        from: &Shared,
        for_layer: usize,
        copy: usize,
    ) -> Result<Shared, StageError> {
        let to = shared_name(inode, for_layer, copy);
        let lost = match (self.content(inode).1, &from.place) {
            (None, _) => {
                let spill = self.spill.clone();
                self.make(inode, spill.directory(), OsStr::new(&to)).map_err(trying("create it"))?
            }
            (Some(_), Place::Placed(Some(source))) => {
                self.copy_up(inode, source.as_fd(), &to, for_layer)?;
                None
            }
            (Some(_), _) => {
                let name = shared_name(inode, from.for_layer, from.copy);
                let source = self.open_shared(&name).map_err(trying("read it"))?;
                self.copy_up(inode, source.as_fd(), &to, for_layer)?;
                None
            }
        };
        Ok(Shared { for_layer, copy, place: Place::Spilled, reason: String::new(), lost })
    }

    /// Links a shared file to a name, or its newest copy, where the file system takes no more names of it.
    pub(super) fn link(
        &mut self,
        inode: InodeId,
        here: BorrowedFd<'_>,
        name: &OsStr,
        path: &dyn Fn() -> LayerPath,
    ) -> Result<(), StageError> {
        let Some(mut shared) = self.shared.remove(&inode) else {
            return Err(trying("link it")(Errno::NOENT));
        };
        let mut linked = self.try_link(inode, &mut shared, here, name);
        while linked == Ok(false) {
            let reason = std::mem::take(&mut shared.reason);
            let copy = self.share_again(inode, &shared, shared.for_layer, shared.copy + 1)?;
            shared = Shared { reason, ..copy };
            linked = self.try_link(inode, &mut shared, here, name);
        }
        linked.map_err(trying("link it"))?;
        if shared.copy > 0 {
            self.losses.add(LossKind::HardLink, shared.reason.clone(), path);
        }
        self.shared.insert(inode, shared);
        Ok(())
    }

    /// `false` if it can have no more names.
    fn try_link(&self, inode: InodeId, shared: &mut Shared, here: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
        if matches!(shared.place, Place::Placed(_)) {
            return Ok(false);
        }
        let spill = self.spill.directory();
        let from = shared_name(inode, shared.for_layer, shared.copy);
        match rustix::fs::linkat(spill, from.as_str(), here, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(error) if is_full(error) => {}
            Err(error) => return Err(error),
        }
        shared.reason = match rustix::fs::statat(spill, from.as_str(), AtFlags::SYMLINK_NOFOLLOW)?.st_nlink {
            1 => "the file system has no hard links".to_owned(),
            most => format!("the file system takes no more than {most} names of one file"),
        };
        // Its name among the spilled counts, too. This is the last one that it can have.
        let source = self.content(inode).1.map(|_| self.open_shared(&from)).transpose()?;
        match rustix::fs::renameat(spill, from.as_str(), here, name) {
            Ok(()) => {
                shared.place = Place::Placed(source);
                Ok(true)
            }
            // Btrfs counts the names in each directory.
            Err(Errno::MLINK) => {
                shared.place = Place::Placed(source);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a spilled file for reading. Its mode may forbid that to its owner.
    fn open_shared(&self, name: &str) -> Result<OwnedFd, Errno> {
        let spill = self.spill.directory();
        let open =
            || crate::fs::openat(spill, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        match open() {
            Err(Errno::ACCESS) => {
                let stat = rustix::fs::statat(spill, name, AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmodat(spill, name, Mode::RUSR, AtFlags::empty())?;
                let source = open()?;
                rustix::fs::chmodat(spill, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
                Ok(source)
            }
            other => other,
        }
    }

    fn copy_up(
        &mut self,
        inode: InodeId,
        source: BorrowedFd<'_>,
        to: &str,
        for_layer: usize,
    ) -> Result<(), StageError> {
        let failed = || trying("copy it");
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = crate::fs::openat(self.spill.directory(), to, create, Mode::RUSR | Mode::WUSR).map_err(failed())?;
        if !share_content(source, &target) {
            // Holes are none.
            let blocks = rustix::fs::fstat(source).map_err(failed())?.st_blocks;
            self.copies.bytes(u64::try_from(blocks).unwrap_or(0).saturating_mul(512), for_layer)?;
            let size = self.file(inode).ok_or(Errno::INVAL).map_err(failed())?.1;
            copy_content(source, &target, size, self.cancel).map_err(failed())?;
        }
        let attributes = self.file(inode).ok_or(Errno::INVAL).map_err(failed())?.0;
        // What cannot be kept was counted when the first one was made.
        let path = || LayerPath::root();
        self.capabilities
            .set(Subject::Open(target.as_fd()), attributes, &path, &mut Losses::default())
            .map_err(failed())
    }

    fn file(&self, inode: InodeId) -> Option<(&Attributes, u64)> {
        match &self.stack.origin(inode).1.kind {
            ChangeKind::File { attributes, size, .. } | ChangeKind::LinkSource { attributes, size, .. } => {
                Some((attributes, *size))
            }
            _ => None,
        }
    }
}

/// Whether a file can have no more names here: too many, or hard links are not known at all.
fn is_full(error: Errno) -> bool {
    matches!(error, Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS)
}

fn shared_name(inode: InodeId, layer: usize, copy: usize) -> String {
    format!("inode-{}-{layer}-{copy}", inode.number())
}

fn link_to(
    parent: BorrowedFd<'_>,
    names: &Names,
    name: NameId,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> Result<(), Errno> {
    rustix::fs::linkat(parent, OsStr::from_bytes(names.name(name)), to, to_name, AtFlags::empty())
}
