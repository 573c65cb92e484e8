//! `layflat flatten`

use std::path::PathBuf;

use clap::Args;
use layflat::Cancel;

use super::arguments::{Common, ImageArgs, LayArgs};
use super::{SUCCESS, output, progress};

/// Lay an image down as one root file system
///
/// DEST appears whole or not at all. It may be missing, or an empty directory, or an empty mounted file system.
#[derive(Debug, Args)]
pub(crate) struct Flatten {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory that becomes the root file system
    dest: PathBuf,
    #[command(flatten)]
    lay: LayArgs,
}

impl Flatten {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let settled = self.lay.owners.settle()?;
        let image = self.image.open(cancel)?;
        let options = self.lay.options(&self.image.open, settled.owners.clone(), cancel)?;
        let report = layflat::flatten(&image, &self.dest, &options, progress::progress(common).as_ref())?;
        settled.say(common);
        output::report(common, &self.dest, &report)?;
        Ok(SUCCESS)
    }
}
