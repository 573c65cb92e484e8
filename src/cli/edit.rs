//! What `append` and `config set` share: an image is opened, edited, and copied to its destination.

use std::ffi::OsStr;

use anyhow::Context;
use clap::Args;
use layflat::blob::Compress;
use layflat::copy::{CopyOptions, Format, copy};
use layflat::core::reference::Reference;
use layflat::edit::{self, Edit, NewLayer, edit_all};
use layflat::image::Image;
use layflat::transport::source::{self, Named, Tree};
use layflat::{Cancel, Options};

use super::arguments::{Common, OpenArgs};
use super::changes::ChangeArgs;
use super::copy::{open_store, report_copy};
use super::ends::EndsArgs;
use super::{SUCCESS, output, progress};

/// Options of commands that edit an image.
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    /// Edit the images for all platforms of an index
    #[arg(long, conflicts_with_all = ["platform", "src_platform"])]
    all_platforms: bool,
    /// Do not wait until what is stored in a file or directory is on disk: after a power loss soon after, it may be
    /// damaged
    #[arg(long, hide_short_help = true)]
    no_sync: bool,
    /// Manifest format: auto, oci or docker. auto writes OCI, unless a registry only accepts Docker's [default: auto]
    #[arg(long, value_name = "FORMAT", default_value = "auto", hide_default_value = true)]
    format: Format,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    ends: EndsArgs,
    #[command(flatten)]
    pub(super) changes: ChangeArgs,
}

/// How layers are made that come on top.
pub(super) struct Layers<'a> {
    /// How they are compressed; all others stay as they are.
    pub(super) compression: Option<Compress>,
    /// Makes them.
    #[allow(clippy::type_complexity, reason = "it has one use")]
    pub(super) make: &'a dyn Fn(&Options) -> anyhow::Result<Vec<NewLayer>>,
}

impl EditArgs {
    /// Edits the image `source`, and puts it into `destination`.
    pub(super) fn run(
        &self,
        (source, destination): (&OsStr, &OsStr),
        layers: &Layers<'_>,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<u8> {
        let (source, destination) = (source::reference(source)?, source::reference(destination)?);
        let changes = self.changes.changes()?;
        let options = self.open.options(cancel)?;
        let both = (&source, &destination);
        // What cannot be written to is better known before anything was read.
        let store = open_store(both, &self.open, &self.ends, self.no_sync, cancel)?;
        let opening = self.ends.open_options(both, &self.open, cancel)?;
        let images =
            edit::open(&source, self.all_platforms, &opening).with_context(|| format!("cannot open {source}"))?;
        let wanted = Edit {
            layers: (layers.make)(&options)?,
            changes,
            created_by: self.changes.created_by.clone(),
            comment: self.changes.comment.clone(),
            base: self.changes.set_base_image_annotations.then(|| base_name(&source)),
        };
        for new in &wanted.layers {
            output::losses(common, &new.not_kept);
        }
        self.say_what_stays(common, &images);
        let signatures = edit::signatures(&source, &images, &opening);
        let progress = progress::progress(common);
        let images =
            edit_all(images, &wanted, &options, progress.as_ref()).with_context(|| format!("cannot edit {source}"))?;
        let copying = CopyOptions {
            jobs: options.jobs,
            compression: layers.compression,
            compress_new_only: true,
            format: self.format,
            several: false,
            allow_nondistributable: false,
            limits: options.limits,
            cancel: cancel.clone(),
        };
        let report = copy(&images, store, &copying, progress.as_ref())?;
        report_copy(common, &destination, &report, 0)?;
        if !signatures.is_empty() {
            let note = format!(
                "{source} has {}: what refers to its digest says nothing of the new image, and was not copied",
                signatures.join(", ")
            );
            output::note(common, note, Some("sign the new image"));
        }
        Ok(SUCCESS)
    }

    /// Says that the words of the command become arguments of another entrypoint.
    fn say_what_stays(&self, common: &Common, images: &[Named]) {
        let command = |image: &Image| image.config.as_ref().map(|config| config.parsed.config.cmd.clone());
        let kept = images.iter().find_map(|image| match &image.content {
            Tree::Image(image) => command(image).filter(|words| !words.is_empty()),
            _ => None,
        });
        if let Some(words) = kept.filter(|_| self.changes.keeps_command()) {
            let note = format!("Cmd stays {words:?}: these words become arguments of the new entrypoint");
            output::note(common, note, Some("--clear cmd removes them"));
        }
    }
}

/// The name of an image as other tools write it, where it is one of a registry's.
fn base_name(source: &Reference) -> String {
    match source {
        Reference::Registry(name) => name.complete().to_string(),
        other => other.to_string(),
    }
}
