//! Validates an image, and reports everything that is wrong with it, not only the first problem.
//!
//! What the image states is held against what is there: sizes, digests, DiffIDs, media types, history, configuration.
//! Each layer is read on its own, past entries that cannot be taken, so that one damaged layer does not keep the others
//! from being checked. What the layers show together is looked at past entries that cannot be carried out, too.

mod layers;
mod secrets;
mod statements;
mod tree;

use serde::Serialize;

use crate::core::chain::Chain;
use crate::core::filter::Filter;
use crate::core::record::LayerPath;
use crate::image::Image;
use crate::transport::source::SourceError;
use crate::unpack::{Error, Options, Progress};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The image is not sound: it cannot be unpacked, or is not what it says it is.
    Error,
    /// It can be unpacked, but tools may differ over it, or it gives something away.
    Warning,
    /// Worth knowing.
    Note,
}

/// What was found. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The manifest, or what leads to it, is not as it should be.
    Manifest,
    /// The configuration is not as it should be.
    Config,
    /// A file in an archive is named by a digest that is not its own.
    FileName,
    /// Not as many layers as the configuration has DiffIDs.
    LayerCount,
    /// Not as many lines of history as there are layers.
    History,
    /// A layer's file is missing.
    BlobMissing,
    /// A layer's file cannot be read.
    BlobUnreadable,
    /// A layer's file has another size than stated.
    BlobSize,
    /// A layer's file has another digest than stated.
    BlobDigest,
    /// A layer's compression is damaged.
    BlobDamaged,
    /// A layer has another DiffID than stated.
    DiffId,
    /// A layer is compressed otherwise than its media type says.
    MediaType,
    /// A layer's archive is damaged.
    ArchiveDamaged,
    /// A name climbs above the root.
    NameClimbs,
    /// An entry cannot be taken.
    BadEntry,
    /// Something is larger than it may be.
    Limit,
    /// A layer has several entries of one name.
    DuplicateEntry,
    /// A whiteout deletes nothing.
    IdleWhiteout,
    /// A symlink leads nowhere.
    DanglingLink,
    /// A secret that a later layer only hides.
    HiddenSecret,
    /// Something was not checked, since something else is wrong.
    NotChecked,
}

impl FindingKind {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::FileName => "file-name",
            Self::LayerCount => "layer-count",
            Self::History => "history",
            Self::BlobMissing => "blob-missing",
            Self::BlobUnreadable => "blob-unreadable",
            Self::BlobSize => "blob-size",
            Self::BlobDigest => "blob-digest",
            Self::BlobDamaged => "blob-damaged",
            Self::DiffId => "diff-id",
            Self::MediaType => "media-type",
            Self::ArchiveDamaged => "archive-damaged",
            Self::NameClimbs => "name-climbs",
            Self::BadEntry => "bad-entry",
            Self::Limit => "limit",
            Self::DuplicateEntry => "duplicate-entry",
            Self::IdleWhiteout => "idle-whiteout",
            Self::DanglingLink => "dangling-link",
            Self::HiddenSecret => "hidden-secret",
            Self::NotChecked => "not-checked",
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
    pub kind: FindingKind,
    /// The path that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<LayerPath>,
    /// In words.
    pub text: String,
}

impl Finding {
    fn new(severity: Severity, kind: FindingKind, text: impl Into<String>) -> Self {
        Self { layer: None, severity, kind, path: None, text: text.into() }
    }

    fn error(kind: FindingKind, text: impl Into<String>) -> Self {
        Self::new(Severity::Error, kind, text)
    }

    fn warning(kind: FindingKind, text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, kind, text)
    }

    fn note(kind: FindingKind, text: impl Into<String>) -> Self {
        Self::new(Severity::Note, kind, text)
    }

    fn in_layer(self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self }
    }

    fn at(self, path: LayerPath) -> Self {
        Self { path: Some(path), ..self }
    }
}

/// Checks an image, which is best opened with [`OpenOptions::incomplete`](crate::transport::source::OpenOptions). With
/// `fast` no layer is read: only what manifest and configuration state is held against sizes and each other.
///
/// The findings are sorted: first what is about the whole image, then by layer; the worst first.
///
/// # Errors
/// The work was cancelled. Everything else is a finding.
pub fn check(image: &Image, fast: bool, options: &Options, progress: &dyn Progress) -> Result<Vec<Finding>, Error> {
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let mut findings = statements::check(image);
    if fast {
        findings.extend(statements::check_blobs(image));
    } else {
        let layers = layers::read(image, options, progress)?;
        progress.settling();
        tree::check(image, layers, options, &mut findings)?;
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// What an image is found to be that cannot even be opened; nothing, if that is not a fault of the image.
pub fn of_source_error(error: &SourceError) -> Option<Finding> {
    let kind = match error {
        SourceError::Config(_) => FindingKind::Config,
        SourceError::Archive { .. } | SourceError::Damaged { .. } => FindingKind::ArchiveDamaged,
        SourceError::Ratio { .. } => FindingKind::Limit,
        SourceError::Blob { .. }
        | SourceError::Missing(_)
        | SourceError::Json { .. }
        | SourceError::Unsupported { .. }
        | SourceError::NestedTooDeep(_) => FindingKind::Manifest,
        _ => return None,
    };
    Some(Finding::error(kind, Chain(error).to_string()))
}
