//! Sets attributes, and knows what the destination can hold: rules A1 to A4, A7.

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid};

use super::owners::{NotMapped, record};
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::{Attributes, LayerPath};
use crate::core::text::Timestamp;
use crate::unpack::{LossKind, Losses, OVERRIDE_STAT, Options, Owners};

/// With so many bytes free a disk is not full for one attribute, whatever else it keeps of them.
const ROOM_FOR_XATTR: u64 = 256 << 10;

/// Capabilities of the destination file system, probed once, and how attributes are applied to it.
#[derive(Debug, Clone)]
pub(crate) struct Capabilities {
    /// Whose files those are that we make.
    owner: (u32, u32),
    /// The bits that the process's umask takes from the mode of what it makes.
    umask: u32,
    /// The earliest and the latest time that the file system holds.
    times: (i64, i64),
    /// The namespace in which overlayfs would obey the image's own attributes (rule A7); none in the flat rootfs.
    escape: Option<XattrNamespace>,
    /// Whether `security.selinux` is set.
    selinux: bool,
    /// Ownership of the created files.
    owners: Owners,
}

/// What attributes are set on.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// A device or FIFO, or a symlink, by its name in an open directory; never followed.
    Named { directory: BorrowedFd<'a>, name: &'a OsStr, symlink: bool },
}

impl Capabilities {
    /// Finds out what a directory of ours can hold.
    pub(crate) fn probe(directory: BorrowedFd<'_>, escape: Option<XattrNamespace>, options: &Options) -> Result<Self> {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let times = (reachable(directory, i64::MIN)?, reachable(directory, i64::MAX)?);
        let (selinux, owners) = (options.selinux, options.owners.clone());
        Ok(Self { owner, umask: umask(directory)?, times, escape, selinux, owners })
    }

    /// The mode to create a file with: the one that it is to have, where nothing has to be set before it.
    pub(crate) fn creation_mode(&self, attributes: &Attributes) -> Mode {
        // The set-id bits go when the owner changes, and an ACL brings a mode of its own.
        // A record, too, is an xattr, and like others only set on what its owner may write to.
        let plain = attributes.xattrs.is_empty() && self.owners != Owners::Recorded;
        let final_at_once = attributes.mode & (self.umask | 0o7000) == 0 && plain;
        if final_at_once { Mode::from_raw_mode(attributes.mode) } else { Mode::RUSR | Mode::WUSR }
    }

    /// Sets all attributes of a file that was created with `mode`.
    pub(crate) fn set_new<P>(
        &self,
        file: BorrowedFd<'_>,
        mode: Mode,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<()> {
        // An ACL may have changed it.
        let mode = attributes.xattrs.is_empty().then_some(mode);
        self.set_all(Subject::Open(file), mode, attributes, path, losses)
    }

    /// Sets all of a file's attributes, in the order that keeps them all: owner, xattrs, mode, times (rule A1).
    ///
    /// The file is one that we just made: it has our owner and no xattrs. What cannot be held is counted in `losses`.
    pub(crate) fn set<P>(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<()> {
        self.set_all(subject, None, attributes, path, losses)
    }

    fn set_all<P>(
        &self,
        subject: Subject<'_>,
        current_mode: Option<Mode>,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<()> {
        let owned = self.set_owner(subject, attributes, path, losses)?;
        self.set_xattrs(subject, attributes, path, losses)?;
        let mut mode = attributes.mode;
        if !owned && mode & 0o6000 != 0 {
            mode &= !0o6000;
            // A record has them.
            if self.owners != Owners::Recorded {
                losses.add(LossKind::SetId, "", path);
            }
        }
        let mode = Mode::from_raw_mode(mode);
        if current_mode != Some(mode) {
            subject.set_mode(mode)?;
        }
        let times = Timestamps {
            last_access: self.clamped(attributes.atime),
            last_modification: self.clamped(attributes.mtime),
        };
        if times.last_modification.tv_sec != attributes.mtime.seconds {
            let end = times.last_modification.tv_sec;
            losses.add(LossKind::Time, format!("the file system's end is {end}"), path);
        }
        subject.set_times(&times)
    }

    /// Sets the attributes of a tree's root on a directory that was settled before, or that stands for the one that
    /// was.
    pub(crate) fn set_root(&self, directory: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
        // What cannot be kept was counted when the tree was settled.
        self.set_again(Subject::Open(directory), attributes, &LayerPath::root, &mut Losses::default())
    }

    /// Sets all attributes of a file that was there before us, whosever it is.
    pub(crate) fn set_again<P>(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<()> {
        if let (Ok((uid, gid)), true) = (self.owners.owner(attributes), self.owners != Owners::Recorded) {
            match subject.set_owner(uid, gid) {
                Err(error) if !is_owner_refused(error) => return Err(error),
                _ => {}
            }
        }
        self.set(subject, attributes, path, losses)
    }

    /// Whether the owner is as it should be.
    fn set_owner<P>(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<bool> {
        let owner = match self.owners.owner(attributes) {
            Ok(owner) => owner,
            Err(NotMapped) => {
                losses.add(LossKind::Owner, "the id map does not have it", path);
                return Ok(false);
            }
        };
        if self.owners == Owners::Recorded {
            if let Err(error) = subject.record(attributes) {
                if !subject.refuses_xattr(error, OVERRIDE_STAT.len())? {
                    return Err(error);
                }
                if self.owner != owner {
                    let detail = format!("{OVERRIDE_STAT}: {}", std::io::Error::from(error));
                    losses.add(LossKind::Owner, detail, path);
                }
            }
            return Ok(self.owner == owner);
        }
        if self.owner == owner {
            return Ok(true);
        }
        match subject.set_owner(owner.0, owner.1) {
            Ok(()) => Ok(true),
            Err(error) if is_owner_refused(error) => {
                losses.add(LossKind::Owner, "not permitted", path);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn set_xattrs<P>(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        path: &dyn Fn() -> P,
        losses: &mut Losses<P>,
    ) -> Result<()> {
        for (name, value) in attributes.xattrs.iter() {
            if name == b"security.selinux" && !self.selinux {
                continue;
            }
            if name == OVERRIDE_STAT.as_bytes() && self.owners == Owners::Recorded {
                // Ours says what the image's headers say; its own would say something else.
                losses.add(LossKind::Xattr, format!("{OVERRIDE_STAT}: the record is there"), path);
                continue;
            }
            let name = self.escape.map_or(Cow::Borrowed(name), |namespace| namespace.escaped(name));
            let set = match self.owners.xattr(&name, value) {
                Ok(value) => match subject.set_xattr(&name, &value) {
                    Err(error) if subject.refuses_xattr(error, value.len())? => {
                        Err(std::io::Error::from(error).to_string())
                    }
                    set => Ok(set?),
                },
                Err(NotMapped) => Err("the id map does not have its ids".to_owned()),
            };
            if let Err(error) = set {
                let kind = if name.starts_with(b"system.posix_acl_") { LossKind::Acl } else { LossKind::Xattr };
                let detail = format!("{}: {error}", crate::core::text::Printable(&name));
                losses.add(kind, detail, path);
            }
        }
        Ok(())
    }

    /// Sets the time of a file's last change, as [`set`](Self::set) does.
    pub(super) fn set_mtime(&self, file: BorrowedFd<'_>, time: Timestamp) -> Result<()> {
        let time = self.clamped(time);
        Subject::Open(file).set_times(&Timestamps { last_access: time, last_modification: time })
    }

    fn clamped(&self, time: Timestamp) -> Timespec {
        let (first, last) = self.times;
        match time.seconds.clamp(first, last) {
            seconds if seconds == time.seconds => Timespec { tv_sec: seconds, tv_nsec: time.nanoseconds.into() },
            seconds => Timespec { tv_sec: seconds, tv_nsec: 0 },
        }
    }
}

/// Whether a file cannot have an owner; everything else is trouble that must not pass for a loss (rule A4).
fn is_owner_refused(error: Errno) -> bool {
    // EINVAL: the user namespace has no such id.
    matches!(error, Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL)
}

/// The process's umask, told by what it does to a file: there is no call that only reads it.
fn umask(directory: BorrowedFd<'_>) -> Result<u32> {
    let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = crate::fs::openat(directory, "umask", flags, all)?;
    let mode = rustix::fs::fstat(&file)?.st_mode & 0o777;
    rustix::fs::unlinkat(directory, "umask", AtFlags::empty())?;
    Ok(0o777 & !mode)
}

/// The nearest time to `seconds` that the file system holds, tried on a directory of ours.
fn reachable(directory: BorrowedFd<'_>, seconds: i64) -> Result<i64> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    rustix::fs::futimens(directory, &Timestamps { last_access: time, last_modification: time })?;
    Ok(rustix::fs::fstat(directory)?.st_mtime)
}

impl Subject<'_> {
    fn set_owner(self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(file) => rustix::fs::fchown(file, uid, gid),
            Self::Named { directory, name, .. } => {
                rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// A symlink has no mode of its own.
    fn set_mode(self, mode: Mode) -> Result<()> {
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            Self::Named { symlink: true, .. } => Ok(()),
            // A node that we just made in a directory of ours: nobody can have put a symlink there.
            Self::Named { directory, name, .. } => rustix::fs::chmodat(directory, name, mode, AtFlags::empty()),
        }
    }

    fn set_times(self, times: &Timestamps) -> Result<()> {
        match self {
            Self::Open(file) => rustix::fs::futimens(file, times),
            Self::Named { directory, name, .. } => {
                rustix::fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Writes down whose it should be. Only files and directories can have such an attribute (xattr(7)).
    fn record(self, attributes: &Attributes) -> Result<()> {
        let file_type = match self {
            Self::Open(file) => FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode),
            Self::Named { .. } => return Err(Errno::NOTSUP),
        };
        self.set_xattr(OVERRIDE_STAT.as_bytes(), record(attributes, file_type).as_bytes())
    }

    /// Whether an attribute could not be set since it cannot be held here: it is not permitted, not supported, not
    /// valid, or too large. A disk that is full, a quota and an error of the device are something else.
    fn refuses_xattr(self, error: Errno, size: usize) -> Result<bool> {
        match error {
            Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL | Errno::TOOBIG | Errno::RANGE => Ok(true),
            // Ext4 and btrfs say it of a value for which a file has no room, too.
            Errno::NOSPC => {
                let status = match self {
                    Self::Open(file) => rustix::fs::fstatfs(file)?,
                    Self::Named { directory, .. } => rustix::fs::fstatfs(directory)?,
                };
                let free = status.f_bavail.saturating_mul(u64::try_from(status.f_bsize).unwrap_or_default());
                let has_inodes = status.f_files == 0 || status.f_ffree > 0;
                Ok(has_inodes && free >= ROOM_FOR_XATTR + size as u64)
            }
            _ => Ok(false),
        }
    }

    pub(crate) fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<()> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match self {
            Self::Open(file) => rustix::fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()),
            Self::Named { directory, name: file, .. } => {
                // There is no lsetxattrat before Linux 6.13; a directory handle has a path in /proc.
                let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
                path.extend_from_slice(file.as_bytes());
                rustix::fs::lsetxattr(OsStr::from_bytes(&path), name.as_c_str(), value, XattrFlags::empty())
            }
        }
    }
}
