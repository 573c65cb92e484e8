//! `layflat mount`

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use layflat::bundle::OverlayBundle;
use layflat::core::text::Printable;
use layflat::lowerdirs::{Check, FILE_NAME, form_of};
use layflat::metadata::{Backend, How, Ready, Stacking, mountable, ready};
use layflat::mount::{Method, MountOptions, Mounted, UpperDirectories, mount_layout};
use layflat::userns::in_user_namespace;
use layflat::{Cancel, Loss, Options, Owners, XattrNamespace};

use super::arguments::{Common, NamespaceArg, OpenArgs, UnpackArgs, open};
use super::backend::BackendArgs;
use super::{SUCCESS, output, progress};

/// Mount an image or unpacked layers
///
/// The mount is read-only, unless --upper and --work are given; a bundle has its own. As root, where the kernel can (Linux 6.12 and
/// later), the contents of an image's layers are put into the cache, once, and an EROFS image of its tree is mounted over them. Otherwise the layers
/// are unpacked into the cache, once, and mounted with overlayfs. For an ordinary user outside of `layflat unshare`, erofsfuse mounts such an EROFS
/// image, if it is installed; the mount is that user's alone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat mount docker://debian:12 mnt
  layflat mount --in-place app.tar mnt    # from docker save: nothing is copied
  layflat mount app-layers mnt --upper changes --work scratch       # writable
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
    /// With EROFS: mount one image a layer, which all images in the cache share that have the same layers below, rather than one for the whole stack. At most
    /// 500 layers
    #[arg(hide_short_help = true, long)]
    layered: bool,
    /// Do not allow access to device nodes
    #[arg(hide_short_help = true, long)]
    nodev: bool,
    /// Ignore setuid, setgid and file capabilities
    #[arg(hide_short_help = true, long)]
    nosuid: bool,
    /// The same as --backend fuse; it shows the owners that --record-ownership stored
    #[arg(hide_short_help = true, long, conflicts_with = "backend")]
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
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Xattr namespace for whiteouts and opaque directories in the cache [default: trusted if permitted, else user]
    #[arg(hide_short_help = true, long, value_name = "NAMESPACE")]
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
        let method = match (self.fuse || self.cached.backend.is_fuse(), self.cached.backend.is_erofsfuse()) {
            (true, _) => Some(Method::Fuse),
            (false, true) => Some(Method::Erofsfuse),
            (false, false) => None,
        };
        let options = MountOptions { upper, nodev: self.nodev, nosuid: self.nosuid, method, ..MountOptions::default() };
        let owners = self.cached.unpack.owners.without_namespace()?;
        let what = What { source: &self.source, target: self.target.as_deref(), layered: self.layered };
        let done = self.cached.mount(&what, options, owners, common, cancel)?;
        if common.json {
            output::json(&serde_json::json!({
                "source": done.source, "target": done.target, "writable": done.mounted.writable,
                "backend": done.backend(), "fuse": done.mounted.method == Method::Fuse,
                "why_not_erofs": done.why_unpacked,
            }))?;
        } else {
            done.say(common);
        }
        Ok(SUCCESS)
    }
}

/// What is to be mounted where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What<'a> {
    /// An image, unpacked layers, EROFS images or a bundle.
    pub(crate) source: &'a OsStr,
    /// Where; a bundle has its own place.
    pub(crate) target: Option<&'a Path>,
    /// Whether EROFS images are to be one a layer.
    pub(crate) layered: bool,
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
    /// Why the layers were unpacked, where EROFS was tried first.
    why_unpacked: Option<String>,
}

impl Done {
    fn backend(&self) -> &'static str {
        match self.mounted.method {
            Method::Erofs => "erofs",
            Method::Erofsfuse => "erofsfuse",
            Method::Fuse => "fuse",
            _ => "overlay",
        }
    }

    pub(crate) fn say(&self, common: &Common) {
        let access = if self.mounted.writable { "writable" } else { "read-only" };
        if let Some(why) = &self.why_unpacked {
            output::say(common, format_args!("note: the layers were unpacked, since {why}"));
        }
        let by = match (self.mounted.method, self.mounted.writable) {
            (Method::Erofs, false) => "EROFS",
            (Method::Erofs, true) => "overlayfs over EROFS",
            (Method::Erofsfuse, _) => "erofsfuse",
            (Method::Fuse, _) => "fuse-overlayfs",
            _ => "overlayfs",
        };
        let how = format!("{access}, by {by}");
        let name = |path: &PathBuf| Printable(path.as_os_str().as_encoded_bytes()).to_string();
        output::say(common, format_args!("{} mounted on {}, {how}", name(&self.name), name(&self.target)));
    }
}

impl CachedArgs {
    /// Mounts unpacked layers, a bundle or an image.
    pub(crate) fn mount(
        &self,
        what: &What<'_>,
        mut options: MountOptions,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<Done> {
        let What { source, target, layered } = *what;
        let path = Path::new(source);
        options.check = Check { every_byte: self.backend.checks_every_byte(), cancel: cancel.clone() };
        if let Some(bundle) = OverlayBundle::open(path)? {
            if target.is_some() || options.upper.is_some() {
                bail!(
                    "{source:?} is a bundle, which has its own mount point and upper directory: give only the bundle"
                );
            }
            let (source, target) = (path.to_owned(), bundle.rootfs());
            let mounted = bundle.mount(options)?;
            return Ok(Done { name: path.to_owned(), source, target, mounted, why_unpacked: None });
        }
        let target =
            target.with_context(|| format!("no mount point given for {source:?}; only a bundle has its own"))?;
        let holds_an_image = || ["index.json", "manifest.json"].iter().any(|name| path.join(name).exists());
        // Held until it is mounted: then it is in use by that.
        let mut kept = None;
        let directory = if path.join(FILE_NAME).is_file() {
            if options.check.every_byte && form_of(path).as_deref() == Some("overlay") {
                bail!("{source:?} has unpacked layers, and --verify is for EROFS images");
            }
            path
        } else if path.is_dir() && !holds_an_image() {
            bail!("{source:?} is a directory with neither {FILE_NAME} (made by `layflat layers`) nor an image");
        } else {
            let stacking = match (layered, &options.upper) {
                (true, _) => Stacking::Layered,
                (false, Some(_)) => Stacking::MergedBelow,
                (false, None) => Stacking::Merged,
            };
            let mut how = self.backend.how(stacking)?;
            // That is done there.
            options.check.every_byte = false;
            if options.method == Some(Method::Fuse) {
                how.backend = Backend::Overlay;
            } else {
                // Before a large image is unpacked for nothing.
                how = mountable(&how, &owners)?;
            }
            let ready = kept.insert(self.ready(source, &how, owners, common, cancel)?);
            options.method = options.method.or(ready.method());
            ready.path()
        };
        let lower = self.open.remote.lower_cache()?.and_then(|lower| lower.canonicalize().ok());
        let lies_in = |lower: &PathBuf| directory.canonicalize().is_ok_and(|directory| directory.starts_with(lower));
        options.unrecorded = lower.as_ref().is_some_and(lies_in);
        let mounted = mount_layout(directory, target, options)?;
        let (name, source, target) = (path.to_owned(), directory.to_owned(), target.to_owned());
        let why_unpacked = kept.and_then(|kept| kept.why_unpacked().map(str::to_owned));
        Ok(Done { name, source, target, mounted, why_unpacked })
    }

    /// The image, ready in the cache.
    fn ready(
        &self,
        source: &OsStr,
        how: &How,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<Ready> {
        let image = open(&source.to_owned(), &self.open, cancel)?;
        self.ready_image(&image, how, owners, common, cancel)
    }

    /// The same of an image that is open.
    pub(super) fn ready_image(
        &self,
        image: &layflat::image::Image,
        how: &How,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<Ready> {
        let options = self.options(owners, cancel)?;
        let ready = ready(image, &self.directory()?, how, &options, progress::progress(common).as_ref())?;
        say_layers(common, ready.repaired(), ready.not_kept());
        Ok(ready)
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
