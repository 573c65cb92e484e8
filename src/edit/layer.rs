//! New layers: archives as they are, once they are checked, and directories, packed.

use std::io::BufWriter;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use super::EditError;
use crate::blob::{Blob, Compress, Compression, Compressor, LayerFacts};
use crate::core::layer::{Discard, read_layer};
use crate::image::{Image, Layer, MediaType};
use crate::pack::{PackError, PackOptions, pack};
use crate::transport::source::{OpenOptions, bare_layer};
use crate::unpack::read::read_layers;
use crate::unpack::{Error, Loss, NoProgress, Options};

/// A layer for an image.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// The layer, with its digests.
    pub(super) layer: Layer,
    /// What the history says of it.
    pub(super) created_by: String,
    /// What of a directory an archive cannot hold (rule A4).
    pub not_kept: Vec<Loss>,
}

/// Takes an archive as a layer: a file, a named pipe, or standard input (`-`). All of it is read, and checked as if it
/// were to be unpacked.
///
/// It stays compressed as it is if it is a file, layers may be compressed so, and it is what is `wanted`. In all other
/// cases whoever stores it compresses it.
///
/// # Errors
/// A file that cannot be read, or is not a layer.
pub fn of_archive(path: &Path, wanted: Option<Compress>, options: &Options) -> Result<NewLayer, EditError> {
    let open = OpenOptions { limits: options.limits, cancel: options.cancel.clone(), ..OpenOptions::default() };
    let layer = bare_layer(path, &open)?;
    let facts = check(path, &layer, options)?;
    if facts.expanded == 0 {
        return Err(EditError::Empty(path.to_owned()));
    }
    let kept = matches!(
        (facts.compression, wanted),
        (Compression::Gzip, None | Some(Compress::GZIP))
            | (Compression::Zstd, None | Some(Compress::ZSTD))
            | (Compression::None, Some(Compress::None))
    );
    let media_type = kept.then(|| MediaType::oci_layer(facts.compression).to_owned());
    let blob = layer.blob.stated(Some(facts.digest), Some(facts.size));
    let layer = Layer { media_type, diff_id: Some(facts.diff_id), ..Layer::bare(blob) };
    Ok(NewLayer { layer, created_by: created_by(path), not_kept: Vec::new() })
}

fn check(path: &Path, layer: &Layer, options: &Options) -> Result<LayerFacts, EditError> {
    let alone = Image { name: None, manifest: None, config: None, layers: vec![layer.clone()], notices: Vec::new() };
    let read = read_layers(&alone, &[0], options, &NoProgress, &|_, stream, reading, tell| {
        Ok((read_layer(stream, &mut Discard::default(), reading, tell)?, ()))
    });
    let cannot = |error| EditError::Layer { path: path.to_owned(), error };
    match read {
        Ok(mut read) => Ok(read.remove(0).facts),
        Err(Error::Cancelled) => Err(EditError::Cancelled),
        Err(Error::Blob { error, .. }) => Err(cannot(error.into())),
        Err(Error::Layer { error, .. }) => Err(cannot(error.into())),
        Err(other) => Err(cannot(other.into())),
    }
}

/// Packs a directory as a layer, into a file without a name in `scratch`. The directory itself gives the image's root
/// neither mode nor owner, unless the options say so.
///
/// # Errors
/// A directory that cannot be read whole, a scratch directory that cannot be written.
pub fn of_directory(path: &Path, scratch: &Path, options: &PackOptions) -> Result<NewLayer, EditError> {
    let failed = |error| EditError::Scratch { path: scratch.to_owned(), error };
    let file = tempfile::tempfile_in(scratch).map_err(failed)?;
    let buffered = BufWriter::with_capacity(256 << 10, file);
    let mut compressor = Compressor::new(buffered, Compress::None, NonZero::<usize>::MIN).map_err(failed)?;
    let packed = pack(path, options, &mut compressor).map_err(|error| match error {
        PackError::Cancelled => EditError::Cancelled,
        error => EditError::Directory { path: path.to_owned(), error },
    })?;
    let (buffered, facts) = compressor.finish().map_err(failed)?;
    let file = buffered.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed)?;
    let blob = Blob::from_file(Arc::new(file), 0, facts.size).stated(Some(facts.digest), Some(facts.size));
    let layer = Layer { diff_id: Some(facts.diff_id), ..Layer::bare(blob.known_as(path)) };
    Ok(NewLayer { layer, created_by: created_by(path), not_kept: packed.not_kept })
}

/// By the name alone: where a file lies is nothing that an image should depend on.
fn created_by(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or(path.as_os_str());
    format!("layflat append {}", name.to_string_lossy())
}
