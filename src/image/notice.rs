//! Irregularities of an image that do not prevent using it: every engine accepts them, and layflat reports them (rules
//! D2 and D4).

use std::fmt;

use crate::core::digest::Digest;
use crate::core::reference::Platform;

/// One thing that is not as it should be, and does not keep an image from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A file is named by a digest that is not its own.
    FileName {
        /// The file.
        file: String,
        /// Digest of its bytes.
        found: Digest,
    },
    /// A layout is not marked as one, or not properly.
    LayoutMarker {
        /// The problem.
        problem: String,
    },
    /// A descriptor has an unknown or wrong media type.
    MediaType {
        /// What it is of, and its digest.
        what: String,
        /// The media type.
        media_type: String,
    },
    /// The configuration states no DiffIDs at all, so that none is checked.
    NoDiffIds,
    /// A non-distributable layer is present, and used like any other.
    NonDistributable {
        /// The layer's digest.
        layer: String,
    },
    /// The configuration states another platform than the descriptor in the index.
    Platform {
        /// The descriptor's.
        described: Platform,
        /// The configuration's.
        stated: Platform,
    },
    /// An image has a name that another one of the same source has, too.
    NameTaken {
        /// The name.
        name: String,
        /// Digest of the image that is without it.
        image: String,
    },
    /// Other images of the same name, for other platforms, were not chosen.
    NotChosen {
        /// What they are: a platform and a digest each.
        images: Vec<String>,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileName { file, found } => write!(
                formatter,
                "the file {file:?} is named by a digest that is not its own, which is {found}: its content was changed after it was named"
            ),
            Self::LayoutMarker { problem } => {
                write!(formatter, "the file oci-layout {problem}; it was read as version 1.0.0")
            }
            Self::MediaType { what, media_type } => {
                write!(formatter, "{what} has the media type {media_type:?}; its content shows what it is")
            }
            Self::NoDiffIds => formatter
                .write_str("the configuration states no diff_ids: the layers are checked by their own digests only"),
            Self::NonDistributable { layer } => {
                write!(
                    formatter,
                    "layer {layer} is marked as non-distributable; it is there, and is used like any other layer"
                )
            }
            Self::Platform { described, stated } => {
                write!(formatter, "the index lists the image for {described}, but its configuration states {stated}")
            }
            Self::NameTaken { name, image } => {
                write!(
                    formatter,
                    "several images have the name {name:?}; the first keeps it, and {image} is taken without it"
                )
            }
            Self::NotChosen { images } => {
                write!(formatter, "the name has other images too, which were left out: {}", images.join(", "))
            }
        }
    }
}

impl serde::Serialize for Notice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
