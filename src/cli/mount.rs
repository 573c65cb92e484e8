//! `layflat mount`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use layflat::form::FILE_NAME;
use layflat::overlay::{MountOptions, UpperDirectories, in_user_namespace, mount_layout};
use layflat::{Cancel, Options, XattrNamespace, cache};

use super::arguments::{Common, LayArgs, NamespaceArg, OpenArgs, open};
use super::{SUCCESS, output, progress};

/// Mount what `layers` made, or an image, with the kernel's overlayfs
///
/// The mount is read-only, unless --upper and --work are given. An image is laid down in a cache directory first, once.
#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// A directory that `layers` made, or an image (see `layflat --help`)
    #[arg(value_name = "IMAGE|DEST")]
    source: OsString,
    /// The directory to mount on, which must be there
    target: PathBuf,
    /// Take changes into this directory, which makes the mount writable
    #[arg(long, value_name = "DIR", requires = "work")]
    upper: Option<PathBuf>,
    /// An empty directory beside --upper, for the kernel's own use
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Let no device nodes be opened through the mount
    #[arg(long)]
    nodev: bool,
    /// Ignore setuid, setgid and file capabilities in the mount
    #[arg(long)]
    nosuid: bool,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    lay: LayArgs,
    /// Where overlay marks are written in the cache; default: trusted where that is allowed, else user
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
}

impl Mount {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let source = Path::new(&self.source);
        let holds_an_image = || ["index.json", "manifest.json"].iter().any(|name| source.join(name).exists());
        // Held until it is mounted: then it is in use by that.
        let mut kept = None;
        let directory = if source.join(FILE_NAME).is_file() {
            source
        } else if source.is_dir() && !holds_an_image() {
            bail!(
                "{:?} is a directory that holds neither {FILE_NAME}, as `layflat layers` makes it, nor an image",
                self.source
            );
        } else {
            kept.insert(self.laid_down(common, cancel)?).path()
        };
        let upper = self.upper.clone().zip(self.work.clone()).map(|(upper, work)| UpperDirectories { upper, work });
        let options = MountOptions { upper, nodev: self.nodev, nosuid: self.nosuid, ..MountOptions::default() };
        let mounted = mount_layout(directory, &self.target, options)?;
        let how = if mounted.writable { "writable" } else { "read-only" };
        if common.json {
            output::json(&serde_json::json!({
                "source": directory, "target": self.target, "writable": mounted.writable,
            }))?;
        } else {
            output::say(common, format_args!("{} mounted on {}, {how}", directory.display(), self.target.display()));
        }
        Ok(SUCCESS)
    }

    /// The image's overlay form in the cache.
    fn laid_down(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<cache::KeptForm> {
        let image = open(&self.source, &self.open, cancel)?;
        let namespace = match self.xattr_namespace {
            Some(namespace) => Some(namespace.into()),
            // Marks in trusted.overlay.* are not obeyed there.
            None => in_user_namespace().then_some(XattrNamespace::User),
        };
        let options = Options { xattr_namespace: namespace, ..self.lay.options(&self.open, cancel)? };
        let cache = self.open.remote.cache_directory()?;
        Ok(cache::overlay(&image, &cache, &options, progress::progress(common).as_ref())?)
    }
}
