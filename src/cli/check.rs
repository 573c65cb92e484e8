//! `layflat check`

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::image::Image;
use layflat::inspect::check::{Finding, Severity, check, of_source_error};
use layflat::transport::source::{self, OpenOptions, open};

use super::arguments::{Common, ImageArgs};
use super::output::{Colour, painted};
use super::table::columns;
use super::{FAILURE, SUCCESS, output, progress};

/// Validate an image; find secrets that a later layer only deletes
///
/// Checks digests, sizes, media types, history and configuration. Reports entries that cannot be unpacked, dangling
/// links, whiteouts that delete nothing, names that occur twice in a layer, and secrets that a later layer deletes but
/// that are still in the image. Exits with 0 without errors, 1 with errors (--fail-on), 2 if the image cannot be checked.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    image: ImageArgs,
    /// Check only the manifest and the configuration; do not read layers
    #[arg(long)]
    fast: bool,
    /// Exit with 1 if there is a finding of this severity, or a worse one
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,
}

/// The mildest finding that makes the check fail.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Note,
}

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
        }
    }
}

impl Check {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let (layers, findings) = match self.open(cancel)? {
            Ok(image) => {
                let options = self.image.open.options(cancel)?;
                let progress = progress::progress(common);
                (Some(image.layers.len()), check(&image, self.fast, &options, progress.as_ref())?)
            }
            Err(finding) => (None, vec![finding]),
        };
        if common.json {
            output::json_lines(&findings)?;
        } else if !common.quiet {
            let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
            output::lines(columns(&rows, &[]))?;
        }
        let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let count =
            |severity, one| counted(findings.iter().filter(|finding| finding.severity == severity).count(), one);
        let checked = match layers {
            Some(layers) => format!("{} {}", counted(layers, "layer"), if self.fast { "not read" } else { "read" }),
            None => "cannot be opened".to_owned(),
        };
        let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
            .map(|(severity, one)| count(severity, one));
        output::say(common, format_args!("{checked}: {}", counts.join(", ")));
        // The worst comes first.
        let sound = findings.iter().all(|finding| finding.severity > self.fail_on.severity());
        Ok(if sound { SUCCESS } else { FAILURE })
    }

    /// Opens the image, as far as it can be; or says what is wrong with it.
    fn open(&self, cancel: &Cancel) -> anyhow::Result<Result<Image, Finding>> {
        let reference = source::reference(&self.image.image)?;
        let options = OpenOptions { incomplete: true, ..self.image.open.open_options(cancel)? };
        match open(&reference, &options) {
            Ok(image) => Ok(Ok(image)),
            Err(error) => match of_source_error(&error) {
                Some(finding) => Ok(Err(finding)),
                None => Err(error).with_context(|| format!("cannot open {reference}")),
            },
        }
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let severity = match finding.severity {
        Severity::Error => painted("error", Colour::Red),
        Severity::Warning => painted("warning", Colour::Yellow),
        Severity::Note => "note".to_owned(),
    };
    let layer = finding.layer.map_or("image".to_owned(), |layer| format!("layer {layer}"));
    let text = match &finding.path {
        Some(path) => format!("{path}: {}", finding.text),
        None => finding.text.clone(),
    };
    vec![severity, layer, finding.kind.name().to_owned(), output::one_line(&text)]
}
