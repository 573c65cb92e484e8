//! `layflat cat`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::inspect::Inside;

use super::arguments::{Common, LookArgs, Looked};
use super::{SUCCESS, missing};

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
            Err(error) if self.layer.is_none() => {
                Err(missing::explained(error, self.path.as_bytes(), &looked, |layer| match layer.checked_sub(1) {
                    Some(below) => format!("--layer {below} prints it"),
                    None => "nothing is left of it".to_owned(),
                }))
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                out.flush().context("cannot write the content")?;
                Ok(SUCCESS)
            }
        }
    }
}
