//! `layflat cat`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, bail};
use clap::Args;
use layflat::Cancel;
use layflat::inspect::{Action, Inside, InsideError, history};

use super::SUCCESS;
use super::arguments::{Common, LookArgs, Looked};

/// Print a file of an image, without unpacking the image
///
/// Symbolic links are followed inside the image. --layer also reaches files that a later layer changed or deleted.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    look: LookArgs,
    /// Path of a file in the image
    path: OsString,
    /// Print the file as of layer N, counted from 0 at the bottom
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
}

impl Cat {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let looked = self.look.look(common, cancel)?;
        let Looked { image, indexes, options } = &looked;
        let inside = match self.layer {
            Some(layer) => Inside::up_to(layer, image, indexes, options)?,
            None => Inside::new(image, indexes, options)?,
        };
        let mut out = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
        match inside.cat(self.path.as_bytes(), &mut out, options) {
            Err(error @ InsideError::Lookup { .. }) => match self.layer_that_had_it(&looked) {
                Some(layer) => bail!("{error}; deleted by layer {}: try --layer {layer}", layer + 1),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
            Ok(()) => {
                out.flush().context("cannot write the content")?;
                Ok(SUCCESS)
            }
        }
    }

    /// The highest layer with which the path was there, though it is not any more.
    fn layer_that_had_it(&self, looked: &Looked) -> Option<usize> {
        let events = history(self.path.as_bytes(), &looked.image, &looked.indexes, &looked.options).ok()?;
        let hidden = events.last().filter(|last| last.deed == Action::Hidden)?;
        hidden.layer.checked_sub(1)
    }
}
