//! How a user names an image.

use std::path::PathBuf;

/// Where an image is, in the spelling that users of skopeo know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `docker-archive:FILE[:NAME:TAG]`
    DockerArchive {
        /// The archive; `-` is standard input.
        file: PathBuf,
        /// Which image of the archive.
        name: Option<String>,
    },
    /// `oci:DIR[:TAG]`
    OciLayout {
        /// The layout's directory.
        directory: PathBuf,
        /// Which image of the layout.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`
    OciArchive {
        /// The archive; `-` is standard input.
        file: PathBuf,
        /// Which image of the layout.
        tag: Option<String>,
    },
    /// `layers:A.tar,B.tar.gz`: bare layers, bottom first.
    Layers(Vec<PathBuf>),
    /// A path with nothing before it, recognised by what is there; `-` is standard input.
    Path(PathBuf),
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {}
