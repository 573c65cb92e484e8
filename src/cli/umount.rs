//! `layflat umount`

use std::path::PathBuf;

use clap::Args;
use layflat::bundle::OverlayBundle;

use super::arguments::Common;
use super::{SUCCESS, output};

/// Take an overlay mount away again
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// The directory that it is mounted on, or a bundle
    #[arg(value_name = "TARGET|BUNDLE")]
    target: PathBuf,
    /// Detach it now, although it is in use, and let it go when it no longer is
    #[arg(long)]
    lazy: bool,
}

impl Umount {
    pub(crate) fn run(&self, common: &Common) -> anyhow::Result<u8> {
        match OverlayBundle::open(&self.target)? {
            Some(bundle) => bundle.umount(self.lazy)?,
            None => layflat::mount::umount(&self.target, self.lazy)?,
        }
        output::say(common, format_args!("{} unmounted", self.target.display()));
        Ok(SUCCESS)
    }
}
