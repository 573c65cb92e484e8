//! Reports what was copied.

use std::fmt;

use super::layers::Task;
use super::transfer::Placed;
use crate::core::digest::Digest;
use crate::image::Notice;

/// One copy, of one image or several.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CopyReport {
    /// The images, as they are to be found now.
    pub images: Vec<ImageReport>,
    /// What refers to them, as it is to be found now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<ImageReport>,
    /// Their blobs, each once: layers and what belongs to attachments, then configurations.
    pub blobs: Vec<BlobReport>,
    /// Differences from the source that a user may not expect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<CopyNote>,
    /// Seconds spent, by the clock on the wall.
    pub seconds: f64,
}

/// What the user should know about a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyNote {
    /// An irregularity of an image.
    Image(Notice),
    /// A layer that only its vendor may hand out was not pushed.
    NotPushed {
        /// Which layer.
        layer: String,
        /// Its digest.
        digest: String,
    },
    /// Anything else.
    Text(String),
}

impl fmt::Display for CopyNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(notice) => notice.fmt(formatter),
            Self::NotPushed { layer, digest } => write!(
                formatter,
                "{layer}, {digest}, is non-distributable and was not pushed; its descriptor has its URL"
            ),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

impl serde::Serialize for CopyNote {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An image that was copied.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ImageReport {
    /// What it is called where it is now.
    pub names: Vec<String>,
    /// Digest of its manifest or index, where one is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<Digest>,
    /// Digest of its configuration, where it is a single image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
}

/// A blob of the images that were copied.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BlobReport {
    /// Digest as it is stored now.
    pub digest: Digest,
    /// Digest in the source, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    /// Stored bytes.
    pub size: u64,
    /// `layer`, `config` or `attachment`.
    pub kind: &'static str,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its bytes were copied as they are.
    Copied,
    /// Its content was copied, compressed otherwise or changed.
    Rewritten,
    /// The destination had it already.
    Present,
    /// It is non-distributable, and was not pushed.
    LeftOut,
    /// The registry mounted it from another repository.
    Mounted,
}

impl Outcome {
    /// As it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Rewritten => "rewritten",
            Self::Present => "present",
            Self::LeftOut => "left out",
            Self::Mounted => "mounted",
        }
    }
}

impl CopyReport {
    /// Bytes that were stored.
    pub fn bytes(&self) -> u64 {
        let stored = |blob: &&BlobReport| matches!(blob.outcome, Outcome::Copied | Outcome::Rewritten);
        self.blobs.iter().filter(stored).map(|blob| blob.size).sum()
    }
}

pub(super) fn of_tasks(tasks: &[Task], placed: &[Placed]) -> Vec<BlobReport> {
    let report = |(task, placed): (&Task, &Placed)| BlobReport {
        digest: placed.digest.clone(),
        source_digest: task.blob.digest().filter(|&source| *source != placed.digest).cloned(),
        size: placed.size,
        kind: if task.is_layer { "layer" } else { "attachment" },
        outcome: placed.outcome,
    };
    tasks.iter().zip(placed).map(report).collect()
}
