//! `layflat man`

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

use super::SUCCESS;

/// Write the man pages, one per command, into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory; it is created if it is missing
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(&self, command: &Command) -> anyhow::Result<u8> {
        std::fs::create_dir_all(&self.dir)
            .and_then(|()| clap_mangen::generate_to(command.clone(), &self.dir))
            .with_context(|| format!("cannot write man pages into {:?}", self.dir))?;
        Ok(SUCCESS)
    }
}
