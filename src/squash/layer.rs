//! Writes a layer of the new image.

use std::fs::File;
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

/// The new layers, one behind the other in a file without a name.
#[derive(Debug)]
pub(super) struct NewLayers {
    file: Arc<File>,
    end: u64,
}

impl NewLayers {
    /// In the directory `scratch`.
    pub(super) fn new(scratch: &Path) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(scratch).map_err(io("cannot make a file for the new layers"))?;
        Ok(Self { file: Arc::new(file), end: 0 })
    }

    /// Writes what a layer's directory must hold as the next layer. Whoever stores it compresses it.
    pub(super) fn write(
        &mut self,
        stack: &Stack<'_>,
        difference: &Difference,
        contents: &[Option<Contents>],
        options: &Options,
    ) -> Result<Layer, Error> {
        let failed = || io("cannot write the new layer");
        let buffered = BufWriter::with_capacity(256 << 10, Arc::clone(&self.file));
        let compressor = Compressor::new(buffered, Compress::None, NonZero::<usize>::MIN).map_err(failed())?;
        let writer = write_entries(compressor, stack, difference, contents, Whiteouts::Written, options)?;
        let (compressor, _) = writer.finish().map_err(failed())?;
        let (buffered, facts) = compressor.finish().map_err(failed())?;
        buffered.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed())?;
        let blob =
            Blob::from_file(Arc::clone(&self.file), self.end, facts.size).stated(Some(facts.digest), Some(facts.size));
        self.end += facts.size;
        // Nobody has stored it yet: how it will be compressed, and so what it will be called, is not for us to say.
        Ok(Layer { diff_id: Some(facts.diff_id), ..Layer::bare(blob) })
    }
}
