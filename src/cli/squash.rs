//! `layflat squash`

use std::ffi::OsString;

use anyhow::Context;
use clap::Args;
use layflat::blob::Compress;
use layflat::copy::{CopyOptions, Format, copy};
use layflat::squash::squash;
use layflat::transport::source::{self, Selection, Tree, open_set};
use layflat::{Cancel, Options};

use super::arguments::{Common, OpenArgs};
use super::copy::{open_store, report_copy};
use super::ends::EndsArgs;
use super::filters::FilterArgs;
use super::{SUCCESS, progress};

/// Merge all layers of an image, or those above the lowest N, into one
///
/// The lowest N layers stay byte for byte, unless a filter changes them. Only whiteouts that still delete something are
/// kept. The configuration changes only in its layers; all history stays, with one line added. Temporary files are
/// written to TMPDIR, uncompressed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat squash app.tar oci:layout:small
  layflat squash --from 1 docker-daemon:app:dev docker-daemon:app:small    # keep the base layer")]
pub(crate) struct Squash {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "SRC")]
    source: OsString,
    /// The destination, as for `layflat copy`
    #[arg(value_name = "DST")]
    destination: OsString,
    /// Keep the lowest N layers, squash the rest
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: usize,
    /// Do not wait until what is stored in a file or directory is on disk: after a power loss soon after, it may be
    /// damaged
    #[arg(long)]
    no_sync: bool,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    ends: EndsArgs,
    /// Layer compression: gzip[:LEVEL], zstd[:LEVEL] or none [default: keep, and gzip for the new layer]
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// Keep SELinux labels (security.selinux) in rewritten layers
    #[arg(long)]
    selinux: bool,
    /// Manifest format: auto, oci or docker. auto writes OCI, unless a registry only accepts Docker's [default: auto]
    #[arg(long, value_name = "FORMAT", default_value = "auto", hide_default_value = true)]
    format: Format,
    #[command(flatten)]
    filters: FilterArgs,
}

impl Squash {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let (source, destination) = (source::reference(&self.source)?, source::reference(&self.destination)?);
        let options = Options { filter: self.filters.filter()?, selinux: self.selinux, ..self.open.options(cancel)? };
        let both = (&source, &destination);
        let store = open_store(both, &self.open, &self.ends, self.no_sync, cancel)?;
        let mut images = open_set(&source, Selection::default(), &self.ends.open_options(both, &self.open, cancel)?)
            .with_context(|| format!("cannot open {source}"))?;
        let progress = progress::progress(common);
        for image in &mut images {
            match &mut image.content {
                Tree::Image(image) => {
                    **image = squash(image, self.from, &std::env::temp_dir(), &options, progress.as_ref())?;
                }
                Tree::Attachment(other) => anyhow::bail!("{source} is {}, not an image", other.kind),
                Tree::Index(_) => {}
            }
        }
        let copying = CopyOptions {
            allow_nondistributable: false,
            jobs: options.jobs,
            compression: self.compression,
            compress_new_only: false,
            format: self.format,
            several: false,
            limits: options.limits,
            cancel: cancel.clone(),
        };
        let report = copy(&images, store, &copying, progress.as_ref())?;
        drop(progress);
        self.filters.say_idle(common);
        report_copy(common, &destination, &report, self.filters.left_out())?;
        Ok(SUCCESS)
    }
}
