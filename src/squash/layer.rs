//! Writes a layer of the new image.

use std::io::BufWriter;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use crate::blob::{Blob, Compress, Compressor};
use crate::core::stack::{Difference, Stack};
use crate::export::{Whiteouts, write_entries};
use crate::image::Layer;
use crate::unpack::stage::Contents;
use crate::unpack::{Error, Options, io};

/// Writes what a layer's directory must hold as a layer, to a file without a name in `scratch`. Whoever stores it
/// compresses it.
pub(super) fn write(
    stack: &Stack<'_>,
    difference: &Difference,
    contents: &[Option<Contents>],
    scratch: &Path,
    options: &Options,
) -> Result<Layer, Error> {
    let failed = || io("cannot write the new layer");
    let file = tempfile::tempfile_in(scratch).map_err(io("cannot make a file for the new layer"))?;
    let buffered = BufWriter::with_capacity(256 << 10, file);
    let compressor = Compressor::new(buffered, Compress::None, NonZero::<usize>::MIN).map_err(failed())?;
    let writer = write_entries(compressor, stack, difference, contents, Whiteouts::Written, options)?;
    let (compressor, _) = writer.finish().map_err(failed())?;
    let (buffered, facts) = compressor.finish().map_err(failed())?;
    let file = buffered.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed())?;
    let blob = Blob::from_file(Arc::new(file), 0, facts.size).stated(Some(facts.digest), Some(facts.size));
    // Nobody has stored it yet: how it will be compressed, and so what it will be called, is not for us to say.
    Ok(Layer { diff_id: Some(facts.diff_id), ..Layer::bare(blob) })
}
