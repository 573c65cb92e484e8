//! `layflat report`: one page about an image, or about two, that needs neither a network nor this program to be read.
//!
//! [`data`] collects what is known, [`html`] and [`markdown`] write it.

mod data;
mod html;
mod markdown;
mod packages;
mod rpm;
mod verdict;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use layflat::Cancel;
use layflat::fs::Output;

use super::arguments::{Common, LookArgs};
use super::gate::Settings;
use super::made::Made;
use super::{SUCCESS, output};
use data::Data;

/// Write a report about an image: layers, files, waste, findings
///
/// The report is one HTML file that needs no network: the layers with what made them and what they waste, a map of the
/// files by size, every change by layer, what to change in the Dockerfile, and what `check` finds. With IMAGE2 it also
/// shows what differs between the two. --markdown writes a summary for a pull request or a job instead. Its head says
/// whether the limits and rules of .layflat.toml in the working directory are kept.
#[derive(Debug, Args)]
#[command(after_help = "Examples
  layflat report app.tar -o report.html
  layflat report --markdown docker://app:1.3 docker://app:1.4 >> \"$GITHUB_STEP_SUMMARY\"")]
pub(crate) struct Report {
    #[command(flatten)]
    look: LookArgs,
    /// A later version of the image: the report shows what differs
    image2: Option<OsString>,
    /// Write to this file; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    replace: bool,
    /// Write Markdown instead of HTML, as for a FILE that ends in .md
    #[arg(long)]
    markdown: bool,
}

impl Report {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let is_markdown = self.markdown || self.output.extension().is_some_and(|extension| extension == "md");
        ensure!(
            is_markdown || self.output != Path::new("-") || !std::io::stdout().is_terminal(),
            "the report is an HTML page: name a file for it with -o report.html, or take --markdown"
        );
        let settings = Settings::of_working_directory()?;
        let first = self.look.look(common, cancel)?;
        let second = match &self.image2 {
            Some(image) => Some(self.look.look_at_another(image, common, cancel)?),
            None => None,
        };
        let names = std::iter::once(&self.look.image.image).chain(&self.image2);
        let names: Vec<String> = names.map(|name| data::text(name.as_encoded_bytes())).collect();
        let data = Data::collect(&names, &first, second.as_ref(), &settings, common)?;
        let text = if is_markdown { markdown::write(&data) } else { html::write(&data)? };
        if is_markdown && self.output == Path::new("-") {
            output::print(|out| out.write_all(text.as_bytes()))?;
            return Ok(SUCCESS);
        }
        let output = Output::create(output::destination(&self.output)?, self.replace, false)?;
        output.file().write_all(text.as_bytes()).with_context(|| format!("cannot write {:?}", self.output))?;
        output.publish()?;
        Made::at(&self.output).bytes(text.len() as u64).say(common, "");
        Ok(SUCCESS)
    }
}
