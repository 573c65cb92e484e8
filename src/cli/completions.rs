//! `layflat completions`

use clap::{Args, Command};
use clap_complete::Shell;

use super::{SUCCESS, output};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, command: &mut Command) -> anyhow::Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "layflat", &mut script);
        output::print(|out| out.write_all(&script))?;
        Ok(SUCCESS)
    }
}
