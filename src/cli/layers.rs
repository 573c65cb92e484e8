//! `layflat layers`

use std::path::PathBuf;

use clap::Args;
use layflat::{Cancel, Options};

use super::arguments::{Common, ImageArgs, NamespaceArg, UnpackArgs};
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, output, progress, tips};

/// Unpack each layer into its own directory, ready for overlayfs
///
/// DEST gets one directory per layer (layers/NNNN-…), layflat.json, which lists them as overlayfs lowerdirs, and
/// image-config.json. It is created by a single rename: on an error it does not appear at all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat layers app.tar app-layers && layflat mount app-layers mnt
  docker save app | layflat layers - app-layers")]
pub(crate) struct Layers {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory to create
    dest: PathBuf,
    #[command(flatten)]
    unpack: UnpackArgs,
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
        let report = layflat::layers(&image, &self.dest, &options, progress::progress(common).as_ref())?;
        settled.say(common);
        output::report(common, &self.dest, &report)?;
        Ok(SUCCESS)
    }
}
