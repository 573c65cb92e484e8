//! `layflat tags`

use std::ffi::OsString;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::core::reference::Reference;
use layflat::core::text::Printable;
use layflat::transport::source;
use serde_json::json;

use super::arguments::{Common, OpenArgs};
use super::{SUCCESS, output};

/// List the tags of a repository, or the images in an archive, a layout or an engine
///
/// SOURCE is docker://[HOST/]NAME, docker-archive:FILE, oci:DIR, oci-archive:FILE, dir:DIR, a path, docker-daemon:NAME
/// for the tags of this name, or docker-daemon: for all images. An image without a name is listed as `@` followed by
/// its index or digest.
#[derive(Debug, Args)]
pub(crate) struct Tags {
    /// The repository, archive, layout or engine
    #[arg(value_name = "SOURCE")]
    source: OsString,
    #[command(flatten)]
    open: OpenArgs,
}

impl Tags {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let options = self.open.open_options(cancel)?;
        let names = if self.source == "docker-daemon:" {
            source::engine_names(&options)?
        } else {
            let reference = source::reference(&self.source)?;
            if let Reference::Registry(name) = &reference
                && (name.tag().is_some() || name.digest().is_some())
            {
                anyhow::bail!(
                    "{reference} names one image; omit the tag or digest: docker://{}/{}",
                    name.registry(),
                    name.repository()
                );
            }
            source::names(&reference, &options).with_context(|| format!("cannot list {reference}"))?
        };
        if common.json {
            output::json_lines(names.iter().map(|name| json!({"name": name})))?;
        } else {
            output::lines(names.iter().map(|name| Printable(name.as_bytes())))?;
        }
        Ok(SUCCESS)
    }
}
