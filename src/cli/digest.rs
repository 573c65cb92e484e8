//! `layflat digest`

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::transport::source;
use serde_json::json;

use super::arguments::{Common, ImageArgs};
use super::{SUCCESS, output};

/// Print the digest of an image's manifest, which identifies it at a registry
///
/// No layers are read. For an index the index's digest is printed; with --platform, that of the selected image. Docker
/// archives, engines and bare layers have no manifest: for them the configuration's digest (the image ID) is printed,
/// with a note.
#[derive(Debug, Args)]
pub(crate) struct Digest {
    #[command(flatten)]
    image: ImageArgs,
}

impl Digest {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let reference = source::reference(&self.image.image)?;
        let options = self.image.open.open_options(cancel)?;
        let opening = || format!("cannot open {reference}");
        let (digest, of) = match source::manifest(&reference, &options).with_context(opening)? {
            Some(manifest) => (manifest.digest, "manifest"),
            None => {
                let image = source::open(&reference, &options).with_context(opening)?;
                let config = image.config.with_context(|| {
                    format!("{reference} has neither a manifest nor a configuration, so it has no digest")
                })?;
                output::say(
                    common,
                    format_args!(
                        "note: {reference} has no manifest; this is the digest of its configuration (the image ID). At a registry the image will have another digest"
                    ),
                );
                (config.digest, "config")
            }
        };
        if common.json {
            output::json(&json!({"digest": digest, "of": of}))?;
        } else {
            output::lines([digest])?;
        }
        Ok(SUCCESS)
    }
}
