//! Reads the content of one file from the middle of a layer.

use std::io::Write;

use super::identity::{Allowance, ContentHasher, Identity};
use super::{Content, zeros};
use crate::blob::{BlobError, Pace};
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::layer::{Failure, LayerError, Place, ReadOptions, Sink, Unkept, read_layer};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::image::Layer;
use crate::unpack::{Error, Options, WhichLayer};

/// Why a file's content could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The layer cannot be read.
    #[error(transparent)]
    Layer(#[from] Error),
    /// The content is another one than when the layer was indexed.
    #[error(
        "layer {layer}: the file's content is known by {found}, and was by {known} when the layer was indexed: the image was altered since"
    )]
    Altered {
        /// Which layer.
        layer: WhichLayer,
        /// What the index says.
        known: Digest,
        /// What it is.
        found: Digest,
    },
    /// Whoever takes the content does not.
    #[error("cannot write the content")]
    Write(#[source] std::io::Error),
}

/// Writes a file's content, holes as zeros, reading the layer as far as the end of the file and no further. What comes
/// out is checked against the index when it has passed.
///
/// # Errors
/// A layer that cannot be read, another content than the indexed one, or an error of `out`.
pub fn copy_content(
    layer: &Layer,
    number: usize,
    id: ContentId,
    known: &Content,
    out: &mut dyn Write,
    options: &Options,
) -> Result<(), ContentError> {
    let which = || WhichLayer { index: number, file: layer.blob.path().map(std::path::Path::to_owned) };
    let of_blob = |error| Error::Blob { layer: which(), error };
    let mut stream = layer.blob.open_layer(&options.limits, Pace::OnDemand).map_err(of_blob)?;
    let allowance = known.allowance.map_or(Allowance::ALL, Allowance);
    let mut sink =
        Wanted { id, out, count: 0, at: 0, size: 0, hasher: None, allowance, found: None, cancel: &options.cancel };
    let read = ReadOptions { limits: options.limits, cancel: options.cancel.clone(), ..ReadOptions::default() };
    let result = read_layer(&mut stream, &mut sink, &read, &mut |_| {});
    if let Some(found) = sink.found {
        let expected = Identity { hash: known.hash, is_whole: known.allowance.is_none() };
        if found == expected {
            return Ok(());
        }
        let digest = |hash: &[u8; 32]| Digest::of_hash(crate::core::digest::Algorithm::Sha256, hash);
        let (known, found) = (digest(&known.hash), digest(&found.hash));
        return Err(ContentError::Altered { layer: which(), known, found });
    }
    let error = match result {
        // It ended before the file: another layer than the indexed one.
        Ok(_) => std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
        Err(LayerError::Write { error, .. }) => match error.downcast::<Stop>() {
            Ok(stop) => match *stop {
                Stop::Out(error) => return Err(ContentError::Write(error)),
                Stop::Cancelled => return Err(Error::Cancelled.into()),
                Stop::Done => LayerError::Cancelled,
            },
            Err(error) => LayerError::Read(std::io::Error::other(error)),
        },
        Err(LayerError::Read(error)) => match error.downcast::<BlobError>() {
            Ok(error) => return Err(of_blob(error).into()),
            Err(error) => LayerError::Read(error),
        },
        Err(LayerError::Cancelled) => return Err(Error::Cancelled.into()),
        Err(error) => error,
    };
    Err(Error::Layer { layer: which(), error }.into())
}

/// Passes on one file's content, and ends the reading behind it.
struct Wanted<'a> {
    id: ContentId,
    out: &'a mut dyn Write,
    /// Files begun so far.
    count: u32,
    /// The end of what was passed on.
    at: u64,
    size: u64,
    /// At work while the file passes.
    hasher: Option<ContentHasher>,
    allowance: Allowance,
    /// Known when the file has passed.
    found: Option<Identity>,
    /// A hole may take a while to pass.
    cancel: &'a Cancel,
}

/// Why the reading ends.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("the file is complete")]
    Done,
    #[error("interrupted")]
    Cancelled,
    #[error(transparent)]
    Out(std::io::Error),
}

impl Wanted<'_> {
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Failure<Stop>> {
        if self.cancel.is_cancelled() {
            return Err(Failure { name: NameId::ROOT, error: Stop::Cancelled });
        }
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| Failure { name: NameId::ROOT, error: Stop::Out(error) })
    }

    fn zeros_up_to(&mut self, offset: u64) -> Result<(), Failure<Stop>> {
        zeros(offset.saturating_sub(self.at)).try_for_each(|piece| self.pass(piece))
    }
}

impl Sink for Wanted<'_> {
    type Error = Stop;

    fn begin(&mut self, _: &Names, _: NameId, _: &Attributes, size: u64, _: Place) -> Result<ContentId, Failure<Stop>> {
        let id = ContentId(self.count);
        self.count += 1;
        if id == self.id {
            self.size = size;
            self.hasher = Some(ContentHasher::default());
        }
        Ok(id)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Stop>> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.data(offset, bytes, &mut self.allowance);
        self.zeros_up_to(offset)?;
        self.pass(bytes)
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Stop>> {
        if self.hasher.is_some() {
            self.zeros_up_to(self.size)?;
        }
        match self.hasher.take() {
            Some(hasher) => {
                self.found = Some(hasher.finish(self.size, &mut self.allowance));
                Err(Failure { name: NameId::ROOT, error: Stop::Done })
            }
            None => Ok(()),
        }
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}
