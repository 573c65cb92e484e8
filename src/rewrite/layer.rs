//! Writing a layer anew.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use crate::archive::Writer;
use crate::blob::{Algorithm, Blob, Hasher};
use crate::error::Error;
use crate::form::io;
use crate::image::Layer;
use crate::options::Options;
use crate::product::{Marks, write_entries};
use crate::stack::{Difference, Stack};
use crate::stage::Contents;

/// What a layer is called that is not compressed (image specification, media-types.md).
const MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes what a layer's directory must hold as a layer, to a file without a name in `scratch`.
pub(super) fn write(
    stack: &Stack<'_>,
    difference: &Difference,
    contents: &[Option<Contents>],
    scratch: &Path,
    options: &Options,
) -> Result<Layer, Error> {
    let failed = || io("cannot write the new layer");
    let file = tempfile::tempfile_in(scratch).map_err(io("cannot make a file for the new layer"))?;
    let hashed = Hashed { file, hasher: Hasher::new(Algorithm::Sha256), length: 0 };
    let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, hashed));
    write_entries(&mut writer, stack, difference, contents, Marks::Written, &options.cancel)?;
    let buffered = writer.finish().map_err(failed())?;
    let Hashed { file, hasher, length } =
        buffered.into_inner().map_err(io::IntoInnerError::into_error).map_err(failed())?;
    let digest = hasher.finish();
    let blob = Blob::from_file(Arc::new(file), 0, length).stated(Some(digest.clone()), Some(length));
    Ok(Layer { blob, media_type: Some(MEDIA_TYPE.to_owned()), diff_id: Some(digest) })
}

struct Hashed {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
