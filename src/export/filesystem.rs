//! Images of read-only file systems, made by their own tools from the flat rootfs: what they hold is what `flatten`
//! unpacks, as far as their formats can hold it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::tool::Tool;
use crate::core::record::LayerPath;
use crate::core::text::{Printable, Timestamp};
use crate::fs::{Aside, Output};
use crate::image::Image;
use crate::tree::{Snapshot, SnapshotOptions};
use crate::unpack::{Error, LossKind, Losses, Options, Progress, Report, flatten, io};

/// The file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// EROFS with compressed contents, by `mkfs.erofs`. Without compression it needs no tool:
    /// [`flat_erofs`](super::flat_erofs).
    Erofs(ErofsCompression),
    /// SquashFS, by `mksquashfs`.
    Squashfs,
}

/// How the contents of an EROFS image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErofsCompression {
    /// LZ4, which every kernel with EROFS reads.
    Lz4,
    /// Zstandard: smaller; by erofs-utils 1.8 or later, for Linux 6.10 or later.
    Zstd,
}

impl ErofsCompression {
    fn argument(self) -> &'static str {
        match self {
            Self::Lz4 => "-zlz4",
            Self::Zstd => "-zzstd",
        }
    }
}

impl Filesystem {
    /// As it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs(_) => "erofs",
            Self::Squashfs => "squashfs",
        }
    }

    /// The last second that a file's time can be.
    fn last_second(self) -> i64 {
        match self {
            Self::Erofs(_) => i64::MAX,
            Self::Squashfs => u32::MAX.into(),
        }
    }

    fn holds_xattr(self, name: &[u8]) -> bool {
        match self {
            Self::Erofs(_) => true,
            Self::Squashfs => [&b"user."[..], b"trusted.", b"security."].iter().any(|prefix| name.starts_with(prefix)),
        }
    }

    /// What makes images.
    fn maker(self) -> Tool {
        match self {
            Self::Erofs(_) => Tool { program: "mkfs.erofs", package: "erofs-utils" },
            Self::Squashfs => Tool { program: "mksquashfs", package: "squashfs-tools" },
        }
    }

    /// What reads them. It comes with the same package, so it is required: an image that nothing has read is not called done.
    fn checker(self) -> Tool {
        match self {
            Self::Erofs(_) => Tool { program: "fsck.erofs", package: "erofs-utils" },
            Self::Squashfs => Tool { program: "unsquashfs", package: "squashfs-tools" },
        }
    }

    /// The command that reads an image, and fails where it is damaged.
    fn check(self, image: &Path) -> Command {
        let mut command = Command::new(self.checker().program);
        match self {
            Self::Erofs(_) => command.args(["-d1", "--extract"]),
            // Goes through all directories, whose tables are the last to be written.
            Self::Squashfs => command.args(["-strict-errors", "-lls"]),
        };
        command.arg(image);
        command
    }

    /// The command that makes an image of a tree. Nothing in it depends on when or where it is run.
    fn command(self, tree: &Path, image: &Path, newest: u64) -> Command {
        let mut command = Command::new(self.maker().program);
        match self {
            // The time of the image is the newest of its files' times: with an earlier one it would change theirs.
            Self::Erofs(compression) => command
                .args(["--quiet", compression.argument(), "-U", "00000000-0000-0000-0000-000000000000"])
                .env("SOURCE_DATE_EPOCH", newest.to_string())
                .args([image, tree]),
            Self::Squashfs => command
                .args([tree, image])
                .args([
                    "-noappend",
                    "-exit-on-error",
                    "-no-progress",
                    "-quiet",
                    "-mkfs-time",
                    &newest.min(u32::MAX.into()).to_string(),
                ])
                .env_remove("SOURCE_DATE_EPOCH"),
        };
        command
    }
}

/// Makes an image of a file system that holds what an image's layers show together, at [`Output::path`].
///
/// The flat rootfs is unpacked in a temporary directory beside it for this, so that what this user cannot keep is
/// missing from the image, too, and is reported.
///
/// # Errors
/// Those of [`flatten`], and a tool that is missing or fails, or that finds the image damaged.
pub fn flat_filesystem(
    image: &Image,
    filesystem: Filesystem,
    output: &Output,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let (maker, checker) = (filesystem.maker(), filesystem.checker());
    // Before anything is read: are they there?
    maker.require()?;
    checker.require()?;
    let path = output.path().ok_or_else(|| Error::Product("the image can only be made in a file".into()))?;
    let place = crate::fs::open_path(&output.scratch()).and_then(Aside::make);
    let place = place.map_err(io("cannot make a temporary directory"))?;
    let tree = crate::fs::shown(&place.path()).join("tree");
    let lay = Options { strict: false, no_sync: true, ..options.clone() };
    let mut report = flatten(image, &tree, &lay, progress)?;
    let newest = fit(&tree, filesystem, options, &mut report)?;
    if options.strict {
        report.refuse_losses()?;
    }
    maker.run(&filesystem.command(&tree, &path, newest), &options.cancel)?;
    // By a program that did not write it: its maker may not have noticed what became of its writes.
    checker.run(&filesystem.check(&path), &options.cancel)?;
    report.form = filesystem.name();
    Ok(report)
}

/// Counts what the format cannot hold (rule A4), and brings times into its range: its tool would take the bits that
/// fit, and end up in another century. Returns the newest time, in whole seconds, rounded up.
fn fit(tree: &Path, filesystem: Filesystem, options: &Options, report: &mut Report) -> Result<u64, Error> {
    let read = SnapshotOptions { cancel: options.cancel.clone(), ..SnapshotOptions::default() };
    let snapshot = Snapshot::take(tree, &read).map_err(|error| Error::Product(error.into()))?;
    let mut losses = Losses::default();
    let mut newest = 0;
    for (path, entry) in snapshot.entries() {
        let name = || LayerPath::normalise(&path).unwrap_or_default();
        let Timestamp { seconds, nanoseconds } = entry.mtime;
        let nearest = seconds.clamp(0, filesystem.last_second());
        if nearest != seconds {
            losses.add(LossKind::Time, format!("{} holds 0 to {}", filesystem.name(), filesystem.last_second()), name);
            let time = Timespec { tv_sec: nearest, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, tree.join(OsStr::from_bytes(&path)), &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io("cannot set a time"))?;
        } else if nanoseconds > 0 && filesystem == Filesystem::Squashfs {
            losses.add(LossKind::Time, "squashfs holds whole seconds", name);
        }
        newest = newest.max(nearest.unsigned_abs() + u64::from(nanoseconds > 0));
        for (xattr, _) in entry.xattrs.iter().filter(|(xattr, _)| !filesystem.holds_xattr(xattr)) {
            let kind = if xattr.starts_with(b"system.posix_acl_") { LossKind::Acl } else { LossKind::Xattr };
            losses.add(kind, format!("{}: {} has none", Printable(xattr), filesystem.name()), name);
        }
    }
    report.not_kept.extend(losses.into_list());
    Ok(newest)
}
