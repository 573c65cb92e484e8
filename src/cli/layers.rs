//! `layflat layers`

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use layflat::metadata::{self, LayersReport, Stacking};
use layflat::{Cancel, Options};

use super::arguments::{Common, ImageArgs, NamespaceArg, UnpackArgs};
use super::backend::BackendArgs;
use super::made::Made;
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, output, progress, tips};

/// Unpack each layer into its own directory, ready for overlayfs
///
/// DEST gets one directory per layer (layers/NNNN-…), layflat.json, which lists them as overlayfs lowerdirs, and
/// image-config.json. It is created by a single rename: on an error it does not appear at all.
///
/// With --backend erofs, DEST gets EROFS images of the layers' trees instead, and one file a layer with the contents of its files. With --backend
/// erofsfuse, it gets one image of all layers, which erofsfuse mounts as well as the kernel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat layers app.tar app-layers && layflat mount app-layers mnt
  docker save app | layflat layers - app-layers
  layflat layers --backend erofs --merged app.tar app-images && layflat mount app-images mnt
  layflat layers --mstack app.tar app.mstack    # for systemd-nspawn --mstack=")]
pub(crate) struct Layers {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory to create
    dest: PathBuf,
    #[command(flatten)]
    unpack: UnpackArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// With --backend erofs: make one image of all layers, not one a layer
    #[arg(long)]
    merged: bool,
    /// Name the directories as systemd 260 and later wants them, for RootMStack= and systemd-nspawn --mstack=. Their whiteouts are user.overlay.*
    #[arg(long, conflicts_with_all = ["backend", "merged", "in_place", "verify", "xattr_namespace"])]
    mstack: bool,
    /// Xattr namespace for whiteouts and opaque directories [default: trusted if permitted, else user]
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
}

impl Layers {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        tips::refuse_archive_name(&self.dest, "layers are unpacked into directories")?;
        let settled = self.unpack.owners.settle()?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), &self.dest)?;
        }
        let image = self.image.open(cancel)?;
        let options = Options {
            xattr_namespace: self.xattr_namespace.map(Into::into),
            ..self.unpack.options(&self.image.open, settled.owners.clone(), cancel)?
        };
        if self.backend.is_erofs() {
            let stacking = match (self.backend.is_erofsfuse(), self.merged) {
                (true, _) => Stacking::MergedForErofsfuse,
                (false, true) => Stacking::Merged,
                (false, false) => Stacking::Layered,
            };
            let how = self.backend.how(stacking)?;
            let cache = self.image.open.remote.cache_directory()?;
            let progress = progress::progress(common);
            let report = metadata::layers(&image, &self.dest, &cache, &how, &options, progress.as_ref())?;
            return self.say(common, &report);
        }
        if self.merged {
            bail!("--merged requires --backend erofs");
        }
        if self.backend.is_fuse() {
            bail!("--backend fuse is for mount; unpacked layers are the same for overlayfs and fuse-overlayfs");
        }
        let progress = progress::progress(common);
        let report = if self.mstack {
            layflat::mstack(&image, &self.dest, &options, progress.as_ref())?
        } else {
            layflat::layers(&image, &self.dest, &options, progress.as_ref())?
        };
        settled.say(common);
        output::notices(common, &report.notices);
        output::losses(common, &report.not_kept);
        if common.json {
            output::json(&report)?;
        } else {
            let made = Made::at(&self.dest).count(report.layers.len() as u64, "layer", "layers");
            made.tree(&report.made, None).losses(&report.not_kept).say(common, "");
        }
        Ok(SUCCESS)
    }

    /// Says what was made of EROFS images.
    fn say(&self, common: &Common, report: &LayersReport) -> anyhow::Result<u8> {
        output::losses(common, &report.not_kept);
        if common.json {
            output::json(report)?;
        } else {
            let lie = if report.in_place { "the image's own archive" } else { "content files" };
            let checked = if report.verified { "" } else { ", which was not verified" };
            let made = Made::at(&self.dest).count(report.layers as u64, "layer", "layers");
            let made = made.tree(&report.made, None).losses(&report.not_kept);
            made.say(common, &format!("EROFS images over {lie}{checked}"));
        }
        Ok(SUCCESS)
    }
}
