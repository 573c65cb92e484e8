//! `layflat diff`

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Args;
use layflat::compare::{CompareOptions, Ignore, compare};
use layflat::fs::{Held, hold};
use layflat::tree::SnapshotOptions;
use layflat::userns::enter;
use layflat::{Cancel, NoProgress};
use tempfile::TempDir;

use super::arguments::{Common, OpenArgs, open};
use super::owners::{Granted, granted};
use super::watchdog::alone;
use super::{FAILURE, SUCCESS, output};

/// Compare two images, directories or mounts
///
/// Compares type, mode, owner, mtime, content, link target, device number, extended attributes, ACLs, and hard links.
/// Exits with 0 if the trees are equal, 1 if they differ, 2 on an error. Images are unpacked into a temporary directory
/// first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat diff docker://app:1.3 docker://app:1.4
  layflat diff --ignore mtime,owner rootfs app.tar")]
pub(crate) struct Diff {
    /// A directory, a mount, or an image; `layflat --help` lists all forms of its name
    a: OsString,
    /// The directory, mount or image to compare A with
    b: OsString,
    /// Differences to ignore, separated by commas: mode, owner, mtime, content, links, xattr, xattr:PREFIX
    #[arg(long, value_name = "LIST", default_value = "")]
    ignore: Ignore,
    /// Do not descend into file systems mounted in the trees
    #[arg(long)]
    one_file_system: bool,
    #[command(flatten)]
    open: OpenArgs,
}

/// A tree to compare: a directory of the user's, or one of ours that goes when the value does.
enum Tree {
    Theirs(PathBuf),
    Ours(PathBuf, #[expect(dead_code, reason = "holds the directory")] Temporary),
}

/// A temporary directory that is removed however deep it has become.
struct Temporary {
    directory: TempDir,
    /// The end of the program waits for it.
    _held: Held,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        layflat::remove_tree(&self.directory.path().join("tree"));
    }
}

impl Diff {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        self.enter()?;
        let (a, b) = (self.tree(&self.a, cancel)?, self.tree(&self.b, cancel)?);
        let options = CompareOptions {
            snapshot: SnapshotOptions { one_file_system: self.one_file_system, cancel: cancel.clone() },
            ignore: self.ignore.clone(),
            ..CompareOptions::default()
        };
        let differences = compare(a.path(), b.path(), &options)?;
        if common.json {
            output::json(&differences)?;
        } else if !common.quiet {
            output::lines(&differences)?;
        }
        Ok(if differences.is_empty() { SUCCESS } else { FAILURE })
    }

    /// An ordinary user's trees with the image's owners, shifted, are seen as they are from inside of the user's
    /// namespace. Two directories are compared as they lie: there, owners that it does not have would all look alike.
    fn enter(&self) -> anyhow::Result<()> {
        let image = [&self.a, &self.b].into_iter().any(|name| !is_tree(Path::new(name)));
        if image
            && !rustix::process::geteuid().is_root()
            && let Granted::Ids(maps) = granted()?
        {
            alone(|| enter(&maps))?;
        }
        Ok(())
    }

    fn tree(&self, name: &OsStr, cancel: &Cancel) -> anyhow::Result<Tree> {
        let path = Path::new(name);
        if is_tree(path) {
            return Ok(Tree::Theirs(path.to_owned()));
        }
        let image = open(&name.to_owned(), &self.open, cancel)?;
        let held = hold();
        let directory = tempfile::Builder::new().prefix("layflat-diff-").tempdir()?;
        let tree = directory.path().join("tree");
        let temporary = Temporary { directory, _held: held };
        layflat::flatten(&image, &tree, &self.open.options(cancel)?, &NoProgress)?;
        Ok(Tree::Ours(tree, temporary))
    }
}

fn is_tree(path: &Path) -> bool {
    path.is_dir() && !path.join("oci-layout").is_file()
}

impl Tree {
    fn path(&self) -> &Path {
        match self {
            Self::Theirs(path) | Self::Ours(path, _) => path,
        }
    }
}
