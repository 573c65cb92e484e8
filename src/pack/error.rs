//! Errors of packing.

use crate::below::BelowError;
use crate::core::layer::WriteError;
use crate::core::record::LayerPath;
use crate::tree::TreeError;

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A tree that cannot be read whole.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A directory that was renamed, or made of another one.
    #[error("{path:?} is a renamed directory, {target:?} in the layers below, which must be specified")]
    Redirect {
        /// Where it is now.
        path: LayerPath,
        /// Where it was.
        target: LayerPath,
    },
    /// A renamed directory that the lower ones do not have.
    #[error(
        "{path:?} is a renamed directory, {target:?} in the layers below, but none of the lower directories has it"
    )]
    RedirectMissing {
        /// Where it is now.
        path: LayerPath,
        /// Where it was.
        target: LayerPath,
    },
    /// A file that holds attributes only.
    #[error("{0:?} has only attributes, its data is in a lower layer (metacopy), which must be specified")]
    Metacopy(LayerPath),
    /// A file that holds attributes only, and no data below.
    #[error("{0:?} has only attributes (metacopy), but none of the lower directories has its data")]
    MetacopyMissing(LayerPath),
    /// A name that a layer would take for a whiteout.
    #[error("{0:?}: names that begin with .wh. are whiteouts in a layer; a layer cannot hold a file of this name")]
    WhiteoutName(LayerPath),
    /// More than one lower directory for a whole tree, or none.
    #[error(
        "a whole tree is compared with one lower directory, but {0} were given; compare it with a mount of them all"
    )]
    LowerCount(usize),
    /// More than four thousand million names, or four gibibytes of them.
    #[error("the trees have more names than can be counted")]
    TooManyNames,
    /// The trees ask for more than they may (rule S4).
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was too much.
        what: &'static str,
        /// The most there may be.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// The layer cannot be written, or a file not be read.
    #[error("cannot pack {path:?}")]
    Io {
        /// The path.
        path: LayerPath,
        /// What the kernel says.
        #[source]
        error: std::io::Error,
    },
    /// [`crate::Cancel`] was used.
    #[error("interrupted; no partial output was left")]
    Cancelled,
}

impl From<BelowError> for PackError {
    fn from(error: BelowError) -> Self {
        match error {
            BelowError::Tree(error) => Self::Tree(error),
            BelowError::MetacopyMissing(path) => Self::MetacopyMissing(path),
            BelowError::TooManyNames => Self::TooManyNames,
            BelowError::Limit { what, limit, name } => Self::Limit { what, limit, name },
        }
    }
}

impl From<WriteError> for PackError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Cancelled => Self::Cancelled,
            WriteError::Io { path, error } => Self::Io { path, error },
        }
    }
}
