//! `layflat cat`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;

use super::arguments::{Common, LayerArg, LookArgs};
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
    #[command(flatten)]
    as_of: LayerArg,
}

impl Cat {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let looked = self.look.look(common, cancel)?;
        let inside = looked.inside(self.as_of.layer)?;
        let mut out = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
        match inside.cat(self.path.as_bytes(), &mut out, &looked.options) {
            Err(error) if self.as_of.layer.is_none() => {
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
