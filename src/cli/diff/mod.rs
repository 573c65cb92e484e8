//! `layflat diff`

mod images;
mod side;
mod stat;
mod text;

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use layflat::compare::{CompareOptions, Ignore, Side, Statistics, TreeDifference, differences, snapshots};
use layflat::inspect::Holding;
use layflat::tree::{Snapshot, SnapshotOptions};
use layflat::unpack::AttributeProbe;
use layflat::userns::enter;
use layflat::{Cancel, Options};
use rustix::io::Errno;
use tempfile::TempDir;

use super::arguments::{Common, Looked, OpenArgs};
use super::owners::{Granted, granted};
use super::watchdog::alone;
use super::{FAILURE, SUCCESS, output};
pub(super) use images::Compared;
use side::{AsOf, Named, shown};
#[cfg(feature = "explore")]
pub(super) use stat::sum;

/// Compare two images, directories or mounts
///
/// Lists every difference: `+` only in B, `-` only in A, `~` another type, mode, owner, mtime, size, content, link
/// target, device number, extended attribute, ACL, or other hard links. Exits with 0 if there is none, 1 if there are
/// some, 2 on an error. Images are not unpacked: their layers are read once, and the cache keeps what is known of them.
/// Two images are compared by what they state. An image is compared with a directory as if it were unpacked by the
/// calling user. Times are UTC.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat diff docker://app:1.3 docker://app:1.4
  layflat diff --stat docker://app:1.3 docker://app:1.4
  layflat diff --ignore mtime,owner rootfs app.tar
  layflat diff --layer 1,2 app.tar app.tar    # what layer 2 changes
  layflat diff --json app.tar rootfs | jq -r '.[].path'")]
pub(crate) struct Diff {
    /// A directory, a mount, or an image; `layflat --help` lists all forms of its name
    a: OsString,
    /// The directory, mount or image to compare A with
    b: OsString,
    /// Differences to ignore, separated by commas: mode, owner, mtime, content, links, xattr, xattr:PREFIX
    #[arg(long, value_name = "LIST", default_value = "")]
    ignore: Ignore,
    /// Only count what was added, removed and changed, by file, or by directory where there are many. With LEVELS by
    /// the directories that many levels below the root
    #[arg(long, value_name = "LEVELS", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(u16).range(1..))]
    stat: Option<Option<u16>>,
    /// Compare images as of layer N, counted from 0 at the bottom; with N,M: A as of N and B as of M, or all of the image
    /// where there is no number
    #[arg(long, value_name = "N[,M]")]
    layer: Option<AsOf>,
    /// Do not descend into file systems mounted in the directories that are compared
    #[arg(long)]
    one_file_system: bool,
    #[command(flatten)]
    open: OpenArgs,
}

impl Diff {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let options = CompareOptions {
            snapshot: SnapshotOptions { one_file_system: self.one_file_system, cancel: cancel.clone() },
            ignore: self.ignore.clone(),
            ..CompareOptions::default()
        };
        let look = |image: &OsString| self.open.look(image, common, cancel);
        let (a, b) = (Named::of(&self.a)?, Named::of(&self.b)?);
        let (of_a, of_b) = self.layer.unwrap_or_default().sides(&a, &b)?;
        match (a, b) {
            (Named::Directory(a), Named::Directory(b)) => {
                let (a, b) = snapshots(a, b, &options)?;
                self.report(&a, &b, &options, common)
            }
            // What they state does not depend on who asks.
            (Named::Image(a), Named::Image(b)) => {
                let (first, second) = (look(a)?, look(b)?);
                let (a, b) = (shown(a, of_a, &first, Holding::AsStated)?, shown(b, of_b, &second, Holding::AsStated)?);
                self.report(&a, &b, &options, common)
            }
            (Named::Image(image), Named::Directory(directory)) => {
                as_its_owner()?;
                let looked = look(image)?;
                let image = unpacked((image, of_a), &looked, directory)?;
                self.report(&image, &Snapshot::take(directory, &options.snapshot)?, &options, common)
            }
            (Named::Directory(directory), Named::Image(image)) => {
                as_its_owner()?;
                let looked = look(image)?;
                let image = unpacked((image, of_b), &looked, directory)?;
                self.report(&Snapshot::take(directory, &options.snapshot)?, &image, &options, common)
            }
        }
    }

    /// Compares, and prints what was asked for.
    fn report<'s>(
        &self,
        a: impl Into<Side<'s>>,
        b: impl Into<Side<'s>>,
        options: &CompareOptions,
        common: &Common,
    ) -> anyhow::Result<u8> {
        let (a, b) = (a.into(), b.into());
        let found: Vec<TreeDifference> = differences(a, b, options)?;
        match self.stat {
            _ if common.quiet && !common.json => {}
            Some(levels) => stat::print(&Statistics::of(&found, a.tree, b.tree), levels, common)?,
            None if common.json => output::json(&found)?,
            None => output::lines(found.iter().map(text::line))?,
        }
        Ok(if found.is_empty() { SUCCESS } else { FAILURE })
    }
}

/// An ordinary user's trees with the image's owners, shifted, are seen as they are from inside of the user's namespace.
/// Two directories are compared as they lie: there, owners that it does not have would all look alike.
fn as_its_owner() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root()
        && let Granted::Ids(maps) = granted()?
    {
        alone(|| enter(&maps))?;
    }
    Ok(())
}

/// What an image would be if it were unpacked where the directory is that it is compared with.
fn unpacked<'l>(
    (name, layer): (&OsString, Option<usize>),
    looked: &'l Looked,
    directory: &Path,
) -> anyhow::Result<layflat::inspect::ShownTree<'l>> {
    // Nobody else removes it.
    let _held = layflat::fs::hold();
    // In this order: the place is removed by way of the handle.
    let (_parent, place) = match beside(directory) {
        Some((parent, place)) => (Some(parent), place),
        None => {
            let place = tempfile::Builder::new().prefix("layflat-diff-").tempdir();
            (None, place.context("cannot make a temporary directory")?)
        }
    };
    let options = Options { ..looked.options.clone() };
    let mut probe = AttributeProbe::new(place.path(), &options)?;
    shown(name, layer, looked, Holding::AsUnpacked(&mut probe))
}

/// A temporary directory on the file system of a directory, which holds what that can hold: beside it, and the handle that its path leads by. None
/// where the directory above is another file system, cannot be written to, or lets others put something else in its place.
fn beside(directory: &Path) -> Option<(File, TempDir)> {
    let directory = directory.canonicalize().ok()?;
    let parent = File::open(directory.parent()?).ok()?;
    let above = parent.metadata().ok()?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_trusted = above.uid() == uid || above.uid() == 0;
    let others = if above.gid() == gid { 0o002 } else { 0o022 };
    // In a sticky directory nobody else can rename it.
    let is_guarded = above.mode() & others == 0 || above.mode() & 0o1000 != 0;
    if above.dev() != directory.metadata().ok()?.dev() || !is_trusted || !is_guarded {
        return None;
    }
    let by_handle = format!("/proc/self/fd/{}", parent.as_raw_fd());
    let place = tempfile::Builder::new().prefix(".layflat-diff-").tempdir_in(by_handle).ok()?;
    // What a directory passes on to what is made in it is not part of what is unpacked there.
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::removexattr(place.path(), name) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(_) => return None,
        }
    }
    std::os::unix::fs::chown(place.path(), None, Some(gid)).ok()?;
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o700)).ok()?;
    Some((parent, place))
}
