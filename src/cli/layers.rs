//! `layflat layers`

use std::path::PathBuf;

use clap::Args;
use layflat::{Cancel, Options};

use super::arguments::{Common, ImageArgs, LayArgs, NamespaceArg};
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, output, progress};

/// Lay an image down as directories for an overlay mount
///
/// DEST gets layers/NNNN-…, layflat.json, which lists them as overlayfs wants them, and image-config.json. It appears
/// whole or not at all.
#[derive(Debug, Args)]
pub(crate) struct Layers {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory to make
    dest: PathBuf,
    #[command(flatten)]
    lay: LayArgs,
    /// Where overlay marks are written; default: trusted where that is allowed, else user
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
}

impl Layers {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let settled = self.lay.owners.settle()?;
        if self.lay.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), &self.dest)?;
        }
        let image = self.image.open(cancel)?;
        let options = Options {
            xattr_namespace: self.xattr_namespace.map(Into::into),
            ..self.lay.options(&self.image.open, settled.owners.clone(), cancel)?
        };
        let report = layflat::layers(&image, &self.dest, &options, progress::progress(common).as_ref())?;
        settled.say(common);
        output::report(common, &self.dest, &report)?;
        Ok(SUCCESS)
    }
}
