//! `layflat umount`

use std::path::PathBuf;

use clap::Args;
use layflat::bundle::OverlayBundle;

use super::arguments::Common;
use super::{SUCCESS, output};

/// Unmount what `layflat mount` or `layflat bundle --overlay` mounted
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// The mount point, or a bundle
    #[arg(value_name = "TARGET|BUNDLE")]
    target: PathBuf,
    /// Detach now, even if in use; the file system is unmounted when it is no longer in use
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
