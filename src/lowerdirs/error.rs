//! Why a directory does not have unpacked layers that can be used.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::core::text::Printable;

/// Why a directory does not have unpacked overlay layers that can be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The directory cannot be opened.
    #[error("cannot open the unpacked layers {}", printable(.path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no description.
    #[error("{} does not exist: only directories made by `layflat layers` can be mounted", printable(.path))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The description cannot be read.
    #[error("cannot read {}", printable(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The description is none.
    #[error("{} does not describe unpacked overlay layers", printable(.path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The description is another program's, or a later layflat's.
    #[error(
        "{} describes {form:?} in format {format}; this version of layflat reads \"overlay\" in formats 1 and 2",
        printable(.path)
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it describes.
        form: String,
        /// Its format.
        format: u32,
    },
    /// A layer that may lie elsewhere.
    #[error("{} names the layer {name:?}: not a plain relative path below it", printable(.path))]
    Outside {
        /// The file.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// A layer is not what was unpacked.
    #[error(
        "{} was changed since {} was written, so the mount would not show the image; unpack it again",
        printable(.changed),
        printable(.path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The directory in which names were added or removed.
        changed: PathBuf,
    },
}

fn printable(path: &Path) -> String {
    Printable(path.as_os_str().as_bytes()).to_string()
}
