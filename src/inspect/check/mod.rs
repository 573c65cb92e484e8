//! Validates an image, and reports everything that is wrong with it, not only the first problem.
//!
//! What the image states is held against what is there: sizes, digests, DiffIDs, media types, history, configuration.
//! Each layer is read on its own, past entries that cannot be taken, so that one damaged layer does not keep the others
//! from being checked. What the layers show together is looked at past entries that cannot be carried out, too.

mod exposed;
mod layers;
mod rule;
mod secrets;
mod stated;
mod statements;
mod tree;

use serde::Serialize;

use crate::core::chain::Chain;
use crate::core::filter::Filter;
use crate::core::record::LayerPath;
use crate::image::Image;
use crate::transport::source::SourceError;
use crate::unpack::{Error, Options, Progress};

pub use rule::Rule;
pub use secrets::SecretKind;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The image is not sound: it cannot be unpacked, or is not what it says it is.
    Error,
    /// It can be unpacked, but tools may differ over it, or it gives something away.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that is wrong with an image, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The layer that it is about, from 0 at the bottom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub rule: Rule,
    /// The file that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<LayerPath>,
    /// Where in the configuration or the manifest it is, with slashes: `config/Env/TOKEN`, `history/3`, `annotations/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Which kind of secret was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKind>,
    /// In words.
    pub text: String,
}

impl Finding {
    fn new(severity: Severity, rule: Rule, text: impl Into<String>) -> Self {
        let (layer, path, place, line, secret) = (None, None, None, None, None);
        Self { layer, severity, rule, path, place, line, secret, text: text.into() }
    }

    fn error(rule: Rule, text: impl Into<String>) -> Self {
        Self::new(Severity::Error, rule, text)
    }

    fn warning(rule: Rule, text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, rule, text)
    }

    fn note(rule: Rule, text: impl Into<String>) -> Self {
        Self::new(Severity::Note, rule, text)
    }

    fn in_layer(self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self }
    }

    fn at(self, path: LayerPath) -> Self {
        Self { path: Some(path), ..self }
    }
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// No layer is read: only what manifest and configuration state is held against sizes and each other.
    pub fast: bool,
    /// Secrets are looked for.
    pub secrets: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { fast: false, secrets: true }
    }
}

/// Checks an image, which is best opened with [`OpenOptions::incomplete`](crate::transport::source::OpenOptions).
///
/// The findings are sorted: first what is about the whole image, then by layer; the worst first.
///
/// # Errors
/// The work was cancelled. Everything else is a finding.
pub fn check(
    image: &Image,
    what: CheckOptions,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Finding>, Error> {
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let mut findings = statements::check(image);
    if what.secrets {
        findings.extend(stated::secrets(image));
    }
    if what.fast {
        findings.extend(statements::check_blobs(image));
    } else {
        let layers = layers::read(image, what.secrets, options, progress)?;
        progress.settling();
        tree::check(image, layers, what.secrets, options, &mut findings)?;
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// What an image is found to be that cannot even be opened; nothing, if that is not a fault of the image.
pub fn of_source_error(error: &SourceError) -> Option<Finding> {
    let rule = match error {
        SourceError::Config(_) => Rule::Config,
        SourceError::Archive { .. } | SourceError::Damaged { .. } => Rule::ArchiveDamaged,
        SourceError::Ratio { .. } => Rule::Limit,
        SourceError::Blob { .. }
        | SourceError::Missing(_)
        | SourceError::Json { .. }
        | SourceError::Unsupported { .. }
        | SourceError::NestedTooDeep(_) => Rule::Manifest,
        _ => return None,
    };
    Some(Finding::error(rule, Chain(error).to_string()))
}
