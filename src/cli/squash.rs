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

/// Make one layer of an image's layers, or of those above the lowest N
///
/// The N lowest stay, byte by byte, but for what filters change. Of marks only those remain that still hide something. The configuration stays, but for its
/// layers; of the history's lines none is lost, and one more says what was done. Files and the new layer lie in TMPDIR meanwhile,
/// uncompressed.
#[derive(Debug, Args)]
pub(crate) struct Squash {
    /// The image (see `layflat --help`)
    #[arg(value_name = "SRC")]
    source: OsString,
    /// Where it goes, as `layflat copy` has it
    #[arg(value_name = "DST")]
    destination: OsString,
    /// Let the N lowest layers stay
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: usize,
    /// Do not wait until what is stored in a file or directory is on disk: after a power loss soon after, it may be damaged
    #[arg(long)]
    no_sync: bool,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    ends: EndsArgs,
    /// Compress layers so: gzip[:LEVEL], zstd[:LEVEL] or none; default: those that stay as they are, the new one with gzip
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// Keep security.selinux in the layers that are written anew
    #[arg(long)]
    selinux: bool,
    /// In which words the manifest is stored: auto, oci or docker; auto: OCI's, and Docker's where a registry takes no other
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
            format: self.format,
            several: false,
            limits: options.limits,
            cancel: cancel.clone(),
        };
        let report = copy(&images, store, &copying, progress.as_ref())?;
        report_copy(common, &destination, &report)?;
        Ok(SUCCESS)
    }
}
