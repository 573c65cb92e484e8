//! Why a tree could not be packed.

use crate::compare::CompareError;
use crate::core::record::LayerPath;

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A tree that cannot be read whole.
    #[error(transparent)]
    Tree(#[from] CompareError),
    /// A directory that was renamed, or made of another one.
    #[error(
        "{path:?} is the directory {target:?} of the layers below under another name; name those with --lower, topmost first"
    )]
    Redirect {
        /// Where it is now.
        path: LayerPath,
        /// Where it was.
        target: LayerPath,
    },
    /// A renamed directory that the lower ones do not have.
    #[error(
        "{path:?} is the directory {target:?} of the layers below, but the lower directories that were named have none there"
    )]
    RedirectMissing {
        /// Where it is now.
        path: LayerPath,
        /// Where it was.
        target: LayerPath,
    },
    /// A file that holds attributes only.
    #[error(
        "{0:?} holds attributes only, its data is in a layer below (metacopy); name the lower directories with --lower, topmost first"
    )]
    Metacopy(LayerPath),
    /// A file that holds attributes only, and no data below.
    #[error("{0:?} holds attributes only (metacopy), but the lower directories that were named have no data for it")]
    MetacopyMissing(LayerPath),
    /// A name that a layer would take for a mark.
    #[error("{0:?}: names that begin with .wh. are marks in a layer; no layer can hold a file of that name")]
    NameOfMark(LayerPath),
    /// More than one lower directory for a whole tree, or none.
    #[error(
        "a whole tree is compared with one lower directory, and {0} were named; compare it with a mount of them all"
    )]
    LowerCount(usize),
    /// Directories in directories without an end.
    #[error("{0:?}…: more than {1} directories in one another")]
    TooDeep(LayerPath, usize),
    /// The layer cannot be written, or a file not be read.
    #[error("cannot pack {path:?}: {error}")]
    Io {
        /// The path.
        path: LayerPath,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// [`crate::Cancel`] was used.
    #[error("interrupted; nothing was left behind")]
    Cancelled,
}
