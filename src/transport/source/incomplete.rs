//! Opens incomplete images for `check`, which wants to know everything that is wrong: a missing blob is an error only
//! when it is read.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use crate::blob::{Arriving, Blob, Remote};
use crate::core::digest::Digest;
use crate::image::{Config, ConfigError, Descriptor};
use crate::transport::source::{OpenOptions, SourceError};

/// A blob that should be there and is not.
#[derive(Debug)]
struct Absent {
    problem: String,
    size: u64,
}

impl Remote for Absent {
    fn len(&self) -> u64 {
        self.size
    }

    fn missing(&self) -> Option<&str> {
        Some(&self.problem)
    }

    fn open(&self) -> std::io::Result<Box<dyn Arriving>> {
        Err(Error::new(ErrorKind::NotFound, self.problem.clone()))
    }
}

/// A layer's blob, as it was found. Where an image may be incomplete, one that is missing is one that cannot be read;
/// digest and size are what it should have.
pub(in crate::transport) fn blob(
    found: Result<Blob, SourceError>,
    digest: Option<Digest>,
    size: Option<u64>,
    options: &OpenOptions,
) -> Result<Blob, SourceError> {
    match found {
        Err(SourceError::Missing(name)) if options.incomplete => {
            let problem = format!("{name} is missing: the image is incomplete");
            Ok(Blob::from_remote(Arc::new(Absent { problem, size: size.unwrap_or(0) })).stated(digest, size))
        }
        found => found,
    }
}

/// The blob of a layer that only its vendor may hand out, and that is not here. Where the vendor has it is known, it is
/// put off until it is read: whoever only hands the image on does not need it.
pub(in crate::transport) fn not_distributed(
    layer: &Descriptor,
    digest: Option<Digest>,
    options: &OpenOptions,
) -> Result<Blob, SourceError> {
    let mut problem =
        "is a non-distributable layer, which only its vendor may distribute, and it is not in the image".to_owned();
    if layer.urls.is_empty() && !options.incomplete {
        return Err(SourceError::Unsupported { name: layer.digest.clone(), problem });
    }
    if !layer.urls.is_empty() {
        problem.push_str(&format!(": its vendor provides it at {}", layer.urls.join(", ")));
    }
    let size = layer.size;
    Ok(Blob::from_remote(Arc::new(Absent { problem, size: size.unwrap_or(0) })).stated(digest, size))
}

/// The DiffIDs of that many layers, bottom first. Where an image may be incomplete, as many as there are.
pub(in crate::transport) fn diff_ids(
    config: &Config,
    layers: usize,
    options: &OpenOptions,
) -> Result<Vec<Option<Digest>>, SourceError> {
    match config.diff_ids(layers) {
        Err(ConfigError::LayerCount { diff_ids, .. }) if options.incomplete => {
            let mut known: Vec<_> = config.diff_ids(diff_ids)?.into_iter().map(Some).collect();
            known.resize(layers, None);
            Ok(known)
        }
        all => Ok(all?.into_iter().map(Some).collect()),
    }
}
