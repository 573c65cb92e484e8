//! What commands share that decide over an image: the rules of a repository, and the formats that CI systems read.

mod github;
mod gitlab;
mod ignore;
mod sarif;
mod settings;

use std::path::PathBuf;

use clap::Args;
use layflat::core::digest::Digest;
use layflat::core::text::Printable;
use layflat::inspect::check::Severity;

use super::arguments::Common;
use super::output;

pub(crate) use ignore::Ignore;
pub(crate) use settings::{FailOn, Settings, WasteSettings};

/// How a verdict is given, and by which rules.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// Output format; sarif, github and gitlab are for CI systems [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// File with the repository's rules [default: .layflat.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE", conflicts_with = "no_config")]
    config: Option<PathBuf>,
    /// Ignore .layflat.toml
    #[arg(long)]
    no_config: bool,
}

/// How a verdict is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Text,
    /// One object per line, as with --json
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    /// A code quality report of GitLab
    Gitlab,
}

/// What such a command knows of one rule.
pub(crate) struct RuleFacts {
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    pub(crate) meaning: &'static str,
    pub(crate) fix: &'static str,
}

/// One thing to report, in any format.
pub(crate) struct Problem {
    /// Which of the rules.
    pub(crate) rule: &'static str,
    pub(crate) severity: Severity,
    /// What it is told from others of its rule by, besides the path.
    pub(crate) kind: &'static str,
    pub(crate) layer: Option<usize>,
    /// The path inside of the image, as it is there.
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) place: Option<String>,
    pub(crate) line: Option<u64>,
    pub(crate) text: String,
}

/// All there is to report about one image.
pub(crate) struct Verdict<'a> {
    /// As the user named it.
    pub(crate) image: String,
    pub(crate) rules: &'a [RuleFacts],
    pub(crate) problems: Vec<Problem>,
}

impl GateArgs {
    /// The format, which `--json` also names.
    pub(crate) fn format(&self, common: &Common) -> anyhow::Result<Format> {
        match self.format {
            None if common.json => Ok(Format::Json),
            Some(format) if common.json && format != Format::Json => {
                anyhow::bail!("--json and --format name different formats; leave one of them out")
            }
            format => Ok(format.unwrap_or(Format::Text)),
        }
    }

    /// The repository's rules.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        match &self.config {
            Some(file) => Settings::read(file),
            None if self.no_config => Ok(Settings::default()),
            None => Settings::of_working_directory(),
        }
    }
}

impl Verdict<'_> {
    /// Prints it in one of the formats for CI systems.
    pub(crate) fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Sarif => output::json(&sarif::document(self)),
            Format::Gitlab => output::json(&gitlab::document(self)),
            _ => output::lines(github::annotations(self)),
        }
    }

    fn rule(&self, problem: &Problem) -> Option<&RuleFacts> {
        self.rules.iter().find(|rule| rule.name == problem.rule)
    }

    /// What each problem is known by, also in other builds of the image: no layer's number and no value is in it.
    fn fingerprints(&self) -> Vec<String> {
        let mut seen = std::collections::HashMap::new();
        let fingerprint = |problem: &Problem| {
            let path = problem.path.as_deref().unwrap_or_default();
            let place = problem.place.as_deref().unwrap_or_default().as_bytes();
            let known = [problem.rule.as_bytes(), problem.kind.as_bytes(), path, place].join(&0);
            let count = seen.entry(known.clone()).or_insert(0_u64);
            *count += 1;
            Digest::sha256_of(&[known, count.to_be_bytes().to_vec()].concat()).hex().to_owned()
        };
        self.problems.iter().map(fingerprint).collect()
    }
}

impl Problem {
    /// "layer 2: etc/key: most likely holds …", on one line.
    fn message(&self) -> String {
        let layer = self.layer.map(|layer| format!("layer {layer}: ")).unwrap_or_default();
        let path = self.path.as_ref().map(|path| format!("{}: ", Printable(path))).unwrap_or_default();
        output::one_line(&format!("{layer}{path}{}", self.text))
    }
}
