//! `layflat mount`

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use layflat::bundle::OverlayBundle;
use layflat::core::text::Printable;
use layflat::lowerdirs::FILE_NAME;
use layflat::mount::{Method, MountOptions, Mounted, UpperDirectories, may_mount, mount_layout};
use layflat::userns::in_user_namespace;
use layflat::{Cancel, Loss, Options, Owners, XattrNamespace};

use super::arguments::{Common, NamespaceArg, OpenArgs, UnpackArgs, open};
use super::{SUCCESS, output, progress};
use layflat::unpack::cached;

/// Mount an image or unpacked layers with overlayfs
///
/// The mount is read-only, unless --upper and --work are given; a bundle has its own. An image is first unpacked into
/// the cache, once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat mount docker://debian:12 mnt
  layflat mount app-layers mnt --upper changes --work scratch    # writable
  layflat umount mnt")]
pub(crate) struct Mount {
    /// An image, or a directory made by `layflat layers` or `layflat bundle --overlay`
    #[arg(value_name = "IMAGE|DEST|BUNDLE")]
    source: OsString,
    /// The mount point, an existing directory; a bundle has its own
    target: Option<PathBuf>,
    /// Write changes to this directory; makes the mount writable
    #[arg(long, value_name = "DIR", requires = "work")]
    upper: Option<PathBuf>,
    /// Overlayfs workdir: an empty directory on the file system of --upper
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Do not allow access to device nodes
    #[arg(long)]
    nodev: bool,
    /// Ignore setuid, setgid and file capabilities
    #[arg(long)]
    nosuid: bool,
    /// Use fuse-overlayfs instead of the kernel; it shows the owners that --record-ownership stored
    #[arg(long)]
    fuse: bool,
    #[command(flatten)]
    cached: CachedArgs,
}

/// How an image comes into the cache.
#[derive(Debug, Args)]
pub(crate) struct CachedArgs {
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    pub(crate) unpack: UnpackArgs,
    /// Xattr namespace for whiteouts and opaque directories in the cache [default: trusted if permitted, else user]
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
}

impl CachedArgs {
    /// The cache's directory, if anything is kept.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        self.open.remote.cache()
    }
}

impl Mount {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let upper = self.upper.clone().zip(self.work.clone()).map(|(upper, work)| UpperDirectories { upper, work });
        let method = self.fuse.then_some(Method::Fuse);
        let options = MountOptions { upper, nodev: self.nodev, nosuid: self.nosuid, method };
        let owners = self.cached.unpack.owners.without_namespace()?;
        let done = self.cached.mount(&self.source, self.target.as_deref(), options, owners, common, cancel)?;
        if common.json {
            output::json(&serde_json::json!({
                "source": done.source, "target": done.target, "writable": done.mounted.writable,
                "fuse": done.mounted.method == Method::Fuse,
            }))?;
        } else {
            done.say(common);
        }
        Ok(SUCCESS)
    }
}

/// Prints notes about layers in the cache.
pub(super) fn say_layers(common: &Common, repaired: Option<&str>, not_kept: &[Loss]) {
    if let Some(problem) = repaired {
        output::say(
            common,
            format_args!("note: the unpacked layers in the cache were damaged ({problem}): unpacked anew"),
        );
    }
    output::losses(common, not_kept);
}

/// A mount that was made.
#[derive(Debug)]
pub(crate) struct Done {
    /// The image, unpacked layers or bundle, as the user named it.
    name: PathBuf,
    source: PathBuf,
    target: PathBuf,
    mounted: Mounted,
}

impl Done {
    pub(crate) fn say(&self, common: &Common) {
        let access = if self.mounted.writable { "writable" } else { "read-only" };
        let fuse = self.mounted.method == Method::Fuse;
        let how = if fuse { format!("{access}, by fuse-overlayfs") } else { access.to_owned() };
        let name = |path: &PathBuf| Printable(path.as_os_str().as_encoded_bytes()).to_string();
        output::say(common, format_args!("{} mounted on {}, {how}", name(&self.name), name(&self.target)));
    }
}

impl CachedArgs {
    /// Mounts unpacked layers, a bundle or an image.
    pub(crate) fn mount(
        &self,
        source: &OsStr,
        target: Option<&Path>,
        options: MountOptions,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<Done> {
        let path = Path::new(source);
        if let Some(bundle) = OverlayBundle::open(path)? {
            if target.is_some() || options.upper.is_some() {
                bail!(
                    "{source:?} is a bundle, which has its own mount point and upper directory: give only the bundle"
                );
            }
            let mounted = bundle.mount(options)?;
            return Ok(Done { name: path.to_owned(), source: path.to_owned(), target: bundle.rootfs(), mounted });
        }
        let target =
            target.with_context(|| format!("no mount point given for {source:?}; only a bundle has its own"))?;
        let holds_an_image = || ["index.json", "manifest.json"].iter().any(|name| path.join(name).exists());
        // Held until it is mounted: then it is in use by that.
        let mut kept = None;
        let directory = if path.join(FILE_NAME).is_file() {
            path
        } else if path.is_dir() && !holds_an_image() {
            bail!("{source:?} is a directory with neither {FILE_NAME} (made by `layflat layers`) nor an image");
        } else {
            // Before a large image is unpacked for nothing.
            if options.method != Some(Method::Fuse) {
                may_mount()?;
            }
            kept.insert(self.unpacked(source, owners, common, cancel)?).path()
        };
        let mounted = mount_layout(directory, target, options)?;
        Ok(Done { name: path.to_owned(), source: directory.to_owned(), target: target.to_owned(), mounted })
    }

    /// The image's layers, unpacked in the cache.
    fn unpacked(
        &self,
        source: &OsStr,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<cached::CachedLayers> {
        let image = open(&source.to_owned(), &self.open, cancel)?;
        let options = self.options(owners, cancel)?;
        let kept = cached::overlay(&image, &self.directory()?, &options, progress::progress(common).as_ref())?;
        say_layers(common, kept.repaired(), kept.not_kept());
        Ok(kept)
    }

    /// The library's options for what goes into the cache.
    pub(crate) fn options(&self, owners: Owners, cancel: &Cancel) -> anyhow::Result<Options> {
        let namespace = match self.xattr_namespace {
            Some(namespace) => Some(namespace.into()),
            // Overlayfs ignores trusted.overlay.* there.
            None => in_user_namespace().then_some(XattrNamespace::User),
        };
        Ok(Options { xattr_namespace: namespace, ..self.unpack.options(&self.open, owners, cancel)? })
    }

    /// The cache's directory.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        self.open.remote.cache_directory()
    }

    /// Opens an image.
    pub(crate) fn open(&self, image: &OsString, cancel: &Cancel) -> anyhow::Result<layflat::image::Image> {
        open(image, &self.open, cancel)
    }
}
