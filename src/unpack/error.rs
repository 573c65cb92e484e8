//! Errors of unpacking, with the layer and the entry that caused them.

use std::path::PathBuf;

use crate::blob::BlobError;
use crate::core::chain::Cause;
use crate::core::digest::Digest;
use crate::core::layer::{LayerError, WriteError};
use crate::core::record::LayerPath;
use crate::core::stack::{Problem, StackError};
use crate::fs::{DestinationError, OutputError};
use crate::unpack::Unfit;

fn layers_in_words(count: &usize) -> String {
    crate::core::text::counted(*count as u64, "layer", "layers")
}

/// A layer, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhichLayer {
    /// Its number, from 0 at the bottom.
    pub index: usize,
    /// The file it lies in, where it is a bare one.
    pub file: Option<PathBuf>,
}

impl std::fmt::Display for WhichLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} ({file:?})", self.index),
            None => write!(f, "{}", self.index),
        }
    }
}

/// Why an image could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The destination cannot be used.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A file that is to be made cannot be.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A layer's stored bytes are damaged or not what they should be.
    #[error("layer {layer}")]
    Blob {
        /// Which layer.
        layer: WhichLayer,
        /// What is wrong.
        #[source]
        error: BlobError,
    },
    /// A layer's contents cannot be taken.
    #[error("layer {layer}")]
    Layer {
        /// Which layer.
        layer: WhichLayer,
        /// What is wrong.
        #[source]
        error: LayerError,
    },
    /// A layer is not the one that the configuration names (rule S3).
    #[error(
        "layer {layer}: the configuration states diff_id {stated}, but the layer's is {found}: image and layers do not belong together, or were altered"
    )]
    DiffId {
        /// Which layer.
        layer: WhichLayer,
        /// What the configuration says.
        stated: Digest,
        /// What the layer is.
        found: Digest,
    },
    /// The layers do not fit on one another.
    #[error("layer {}", _0.layer)]
    Stack(#[source] StackError),
    /// The layers together ask for more than they may (rule S4).
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was too much.
        what: &'static str,
        /// The most there may be.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// The lower directories that the layer is to be unpacked over cannot be read.
    #[error("cannot read what lies below the layer")]
    Below(#[source] Cause),
    /// A file cannot be put in its place.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// The destination's file system cannot hold unpacked layers.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A file of the image cannot be written.
    #[error("{path:?}")]
    Write {
        /// Its path in the image.
        path: LayerPath,
        /// Why not.
        #[source]
        error: Cause,
    },
    /// What is made of the tree, like a file system image or a configuration, cannot be made.
    #[error(transparent)]
    Product(Cause),
    /// The destination cannot hold everything, and [`Options::strict`](crate::Options::strict) is set (rule A4).
    #[error("the destination cannot preserve all of the image: {0}")]
    NotKept(String),
    /// A description of unpacked overlay layers cannot be read or written.
    #[error("{path:?}: {problem}")]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Fewer layers than are to stay.
    #[error("the image has {}: nothing to squash above the lowest {from}", layers_in_words(.layers))]
    NothingToSquash {
        /// How many there are.
        layers: usize,
        /// How many are to stay.
        from: usize,
    },
    /// The work was cancelled.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

impl From<StackError> for Error {
    fn from(error: StackError) -> Self {
        if error.problem == Problem::Cancelled { Self::Cancelled } else { Self::Stack(error) }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Cancelled => Self::Cancelled,
            WriteError::Io { path, error } => Self::Write { path, error: error.into() },
        }
    }
}
