//! EROFS images with compressed contents, made by `mkfs.erofs` from the flat rootfs: what they hold is what `flatten` unpacks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::tool::Tool;
use crate::core::record::LayerPath;
use crate::core::text::Timestamp;
use crate::fs::{Aside, Output};
use crate::image::Image;
use crate::tree::{Snapshot, SnapshotOptions};
use crate::unpack::{Error, LossKind, Losses, Options, Progress, Report, flatten, io};

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

const MAKER: Tool = Tool { program: "mkfs.erofs", package: "erofs-utils" };
/// It comes with the same package, so it is required: an image that nothing has read is not called done.
const CHECKER: Tool = Tool { program: "fsck.erofs", package: "erofs-utils" };

/// The command that makes an image of a tree. Nothing in it depends on when or where it is run.
fn command(compression: ErofsCompression, tree: &Path, image: &Path, newest: u64) -> Command {
    let mut command = Command::new(MAKER.program);
    // The time of the image is the newest of its files' times: with an earlier one it would change theirs.
    command
        .args(["--quiet", compression.argument(), "-U", "00000000-0000-0000-0000-000000000000"])
        .env("SOURCE_DATE_EPOCH", newest.to_string())
        .args([image, tree]);
    command
}

/// Makes an EROFS image with compressed contents that holds what an image's layers show together, by `mkfs.erofs`, at [`Output::path`].
///
/// The flat rootfs is unpacked in a temporary directory beside it for this, so that what this user cannot keep is
/// missing from the image, too, and is reported.
///
/// # Errors
/// Those of [`flatten`], and a tool that is missing or fails, or that finds the image damaged.
pub fn flat_compressed_erofs(
    image: &Image,
    compression: ErofsCompression,
    output: &Output,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    // Before anything is read: are they there?
    MAKER.require()?;
    CHECKER.require()?;
    let path = output.path().ok_or_else(|| Error::Product("the image can only be made in a file".into()))?;
    let place = crate::fs::open_path(&output.scratch()).and_then(Aside::make);
    let place = place.map_err(io("cannot make a temporary directory"))?;
    let tree = crate::fs::shown(&place.path()).join("tree");
    let lay = Options { strict: false, no_sync: true, ..options.clone() };
    let mut report = flatten(image, &tree, &lay, progress)?;
    let newest = fit(&tree, options, &mut report)?;
    if options.strict {
        report.refuse_losses()?;
    }
    MAKER.run(&command(compression, &tree, &path, newest), &options.cancel)?;
    // By a program that did not write it: its maker may not have noticed what became of its writes.
    CHECKER.run(Command::new(CHECKER.program).args(["-d1", "--extract"]).arg(&path), &options.cancel)?;
    report.form = "erofs";
    Ok(report)
}

/// Brings times before 1970 into the format's range, and counts them (rule A4). Returns the newest time, in whole seconds, rounded up.
fn fit(tree: &Path, options: &Options, report: &mut Report) -> Result<u64, Error> {
    let read = SnapshotOptions { cancel: options.cancel.clone(), ..SnapshotOptions::default() };
    let snapshot = Snapshot::take(tree, &read).map_err(|error| Error::Product(error.into()))?;
    let mut losses = Losses::default();
    let mut newest = 0;
    for (path, entry) in snapshot.entries() {
        let Timestamp { seconds, nanoseconds } = entry.mtime;
        let nearest = seconds.max(0);
        if nearest != seconds {
            losses
                .add(LossKind::Time, "mkfs.erofs begins with 1970", || LayerPath::normalise(&path).unwrap_or_default());
            let time = Timespec { tv_sec: nearest, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, tree.join(OsStr::from_bytes(&path)), &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io("cannot set a time"))?;
        }
        newest = newest.max(nearest.unsigned_abs() + u64::from(nanoseconds > 0));
    }
    report.not_kept.extend(losses.into_list());
    Ok(newest)
}
