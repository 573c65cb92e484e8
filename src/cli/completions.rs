//! `layflat completions`

use clap::{Args, Command};
use clap_complete::Shell;

use super::{SUCCESS, output};

/// Print a completion script for a shell
///
/// The scripts for bash, zsh and fish complete files, tags and paths inside local images, too: paths of images that were
/// looked into before, since no layer is read and no registry is asked for it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat completions bash > ~/.local/share/bash-completion/completions/layflat
  layflat completions zsh > \"${fpath[1]}/_layflat\"
  layflat completions fish > ~/.config/fish/completions/layflat.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, command: &mut Command) -> anyhow::Result<u8> {
        let script = match self.shell {
            Shell::Bash => include_bytes!("complete/layflat.bash").to_vec(),
            Shell::Zsh => include_bytes!("complete/layflat.zsh").to_vec(),
            Shell::Fish => include_bytes!("complete/layflat.fish").to_vec(),
            other => {
                let mut script = Vec::new();
                clap_complete::generate(other, command, "layflat", &mut script);
                script
            }
        };
        output::print(|out| out.write_all(&script))?;
        Ok(SUCCESS)
    }
}
