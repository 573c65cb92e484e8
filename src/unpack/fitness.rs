//! Tests whether a file system can hold whiteouts and the extended attributes of overlayfs.
//!
//! It is tried before anything is settled, and only matters to a stack that needs it: an image that deletes nothing
//! fits anywhere.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags, makedev};
use rustix::io::Errno;

use super::io;
use crate::core::overlayfs::XattrNamespace;
use crate::core::stack::{Difference, Stack, What};
use crate::fs::make_directory;
use crate::unpack::Error;

/// What a directory can hold.
#[derive(Debug)]
pub(super) struct Fitness {
    namespace: XattrNamespace,
    whiteouts: Result<(), Errno>,
    attributes: Result<(), Errno>,
    /// Whether it holds the attributes of the other namespace.
    other_attributes: bool,
    file_system: String,
}

/// What a file system cannot hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot unpack the layers here: {file_system} does not hold {what}, and overlayfs needs them where a layer \
     deletes or replaces something. Use another directory, on ext4, xfs, btrfs or tmpfs; or unpack into one root file \
     system, which needs none"
)]
pub struct Unfit {
    file_system: String,
    what: String,
    /// Whether attributes of the other namespace would do.
    pub fits_other_namespace: bool,
    #[source]
    error: std::io::Error,
}

impl Fitness {
    /// Tries it in a directory of its own, made in one of ours.
    pub(super) fn probe(place: BorrowedFd<'_>, namespace: XattrNamespace) -> Result<Self, Error> {
        const NAME: &str = "probe";
        let failed = || io("cannot find out what the destination can hold");
        let directory = make_directory(place, NAME, Mode::RWXU).map_err(failed())?;
        let other = match namespace {
            XattrNamespace::Trusted => XattrNamespace::User,
            XattrNamespace::User => XattrNamespace::Trusted,
        };
        let fitness = Self {
            namespace,
            whiteouts: unless_trouble(whiteout(directory.as_fd())).map_err(failed())?,
            attributes: unless_trouble(opaque(directory.as_fd(), namespace)).map_err(failed())?,
            other_attributes: opaque(directory.as_fd(), other).is_ok(),
            file_system: file_system(directory.as_fd()),
        };
        rustix::fs::unlinkat(place, NAME, AtFlags::REMOVEDIR).map_err(failed())?;
        Ok(fitness)
    }

    /// An error if layers of a stack need what there is not.
    pub(super) fn check(&self, stack: &Stack<'_>, layers: &[Difference]) -> Result<(), Error> {
        let (mut whiteouts, mut attributes) = (false, false);
        for entry in layers.iter().flat_map(|difference| difference.entries()) {
            match entry.what {
                What::Whiteout => whiteouts = true,
                What::Directory { opaque, holds_whiteouts, .. } => attributes |= opaque || holds_whiteouts,
                What::Leaf(inode) => attributes |= stack.origin(inode).1.kind.is_whiteout_device(),
            }
        }
        let prefix = self.namespace.prefix();
        for (is_needed, can, what) in [
            (whiteouts, self.whiteouts, "whiteouts (character devices 0:0)".to_owned()),
            (attributes, self.attributes, format!("{prefix}* attributes")),
        ] {
            if let (true, Err(error)) = (is_needed, can) {
                let may_be_other = self.namespace == XattrNamespace::Trusted && self.other_attributes;
                let fits_other_namespace = may_be_other && self.whiteouts.is_ok();
                let file_system = self.file_system.clone();
                return Err(Unfit { file_system, what, fits_other_namespace, error: error.into() }.into());
            }
        }
        Ok(())
    }
}

/// A full or broken disk says nothing of what it could hold.
fn unless_trouble(tried: Result<(), Errno>) -> Result<Result<(), Errno>, Errno> {
    match tried {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::MFILE | Errno::NOMEM)) => {
            Err(error)
        }
        tried => Ok(tried),
    }
}

/// Makes a whiteout, and looks whether it is there: a mount of overlayfs refuses it or makes it vanish.
fn whiteout(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    const NAME: &str = "whiteout";
    rustix::fs::mknodat(directory, NAME, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
    let stat = rustix::fs::statat(directory, NAME, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::unlinkat(directory, NAME, AtFlags::empty())?;
    let is_whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
    if is_whiteout { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

fn opaque(directory: BorrowedFd<'_>, namespace: XattrNamespace) -> Result<(), Errno> {
    let name = format!("{}opaque", namespace.prefix());
    rustix::fs::fsetxattr(directory, name.as_str(), b"y", XattrFlags::empty())?;
    let mut value = [0; 2];
    let length = rustix::fs::fgetxattr(directory, name.as_str(), &mut value)?;
    if value[..length] == *b"y" { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

/// What a directory's file system is called (linux/magic.h).
fn file_system(directory: BorrowedFd<'_>) -> String {
    let Ok(found) = rustix::fs::fstatfs(directory) else { return "the file system".to_owned() };
    let name = match found.f_type as u32 {
        0x794c_7630 => "overlayfs",
        0x8584_58f6 => "ramfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "NFS",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x4d44 => "FAT",
        0x2011_bab0 => "exFAT",
        0xef53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "ZFS",
        magic => return format!("the file system (of type {magic:#x})"),
    };
    name.to_owned()
}
