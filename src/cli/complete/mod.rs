//! `layflat complete`: what a shell's script asks for when the user wants a word completed. It is hidden, and not for people.
//!
//! [`line`] reads the words that are there as clap would, up to the one that is not finished; [`image`] and [`files`] know
//! what can stand there. It must be quick and harmless: no registry and no engine is asked, no layer is read and nothing is
//! written. Of an image that has to be local, the names in it are completed if the cache has the indexes of its layers.

mod files;
mod image;
mod line;

use std::ffi::OsString;

use clap::{Args, Command};

use super::{SUCCESS, output};

/// Complete a command line, for the scripts that `layflat completions` prints
///
/// Prints what the last word can be, one a line; behind a tab what it means.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Complete {
    /// The words behind the program's name; the last one is completed
    #[arg(last = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

impl Complete {
    pub(crate) fn run(&self, mut command: Command) -> anyhow::Result<u8> {
        output::be_quiet(true);
        command.build();
        let (last, before) = match self.words.split_last() {
            Some((last, before)) => (last.clone(), before),
            None => (OsString::new(), &[][..]),
        };
        let before: Vec<OsString> = before.iter().map(|word| line::unquoted(word)).collect();
        output::lines(line::candidates(&command, &before, &line::unquoted(&last)))?;
        Ok(SUCCESS)
    }
}
