//! The other direction: a layer of what one snapshot has on top of another.

use std::fs::File;
use std::io::BufWriter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::Code;

use super::differ::{MEMORY, Refusal, too_large};
use super::mounts::Changes;
use super::proto::diff::DiffRequest;
use super::store::is_root_as_made;
use crate::blob::{Compress, Compression, Compressor, LayerFacts};
use crate::core::cancel::Cancel;
use crate::core::chain::Chain;
use crate::core::filter::{Filter, Times};
use crate::core::limits::Limits;
use crate::image::MediaType;
use crate::pack::{Meaning, PackError, PackOptions, PackReport, pack};

/// A layer that was made.
pub(super) struct Packed {
    /// The stored bytes, in a file without a name.
    pub(super) file: Arc<File>,
    pub(super) facts: LayerFacts,
    pub(super) media_type: String,
    pub(super) report: PackReport,
}

/// What is asked for: of what, and how it is compressed.
pub(super) struct Order {
    pub(super) changes: Changes,
    compress: Compress,
    media_type: String,
    /// The latest time that an entry may have.
    latest: Option<i64>,
}

/// Where and how it is made.
pub(super) struct Place {
    /// Whether the upper directory has the attributes of its root from the one below; containerd's own makes them up.
    pub(super) is_own: bool,
    /// The directory for the file.
    pub(super) scratch: Arc<Path>,
    /// How many threads compress it; one for each processor, if that is not said.
    pub(super) jobs: Option<NonZero<usize>>,
    pub(super) limits: Limits,
}

impl Order {
    pub(super) fn of(request: &DiffRequest) -> Result<Self, Refusal> {
        let ways = [Compress::GZIP, Compress::ZSTD, Compress::None];
        let media_type = match request.media_type.as_str() {
            "" => MediaType::oci_layer(Compression::Gzip),
            stated => stated,
        };
        let compress = ways.into_iter().find(|way| MediaType::oci_layer(way.compression()) == media_type);
        let compress = compress.ok_or_else(|| Refusal::Left(format!("the media type {media_type:?}")))?;
        let changes = Changes::of(&request.left, &request.right).map_err(|error| Refusal::Left(error.to_string()))?;
        let latest = request.source_date_epoch.map(|time| time.seconds);
        Ok(Self { changes, compress, media_type: media_type.to_owned(), latest })
    }

    /// Makes the layer.
    pub(super) fn pack(self, place: &Place, cancel: &Cancel) -> Result<Packed, Refusal> {
        let Changes { upper, lower, namespace, id_maps } = self.changes;
        let scratch = &place.scratch;
        let io =
            |error: std::io::Error| Refusal::Failed(Code::Internal, format!("cannot write in {scratch:?}: {error}"));
        let without_root = !place.is_own
            || is_root_as_made(&upper, lower.first().map(PathBuf::as_path), namespace, id_maps.as_ref()).map_err(
                |error| Refusal::Failed(Code::Internal, format!("cannot read {upper:?} or {lower:?}: {error}")),
            )?;
        let options = PackOptions {
            lower,
            meaning: Some(Meaning::Changes),
            xattr_namespace: Some(namespace),
            without_root,
            id_maps,
            filter: Filter { times: self.latest.map(Times::Clamp), ..Filter::default() },
            limits: place.limits,
            cancel: cancel.clone(),
            ..PackOptions::default()
        };
        let file = BufWriter::with_capacity(256 << 10, tempfile::tempfile_in(scratch).map_err(io)?);
        let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let jobs = place.jobs.unwrap_or(processors);
        let mut compressor = Compressor::new(file, self.compress, jobs).map_err(io)?;
        let report = pack(&upper, &options, &mut compressor).map_err(|error| match error {
            PackError::Cancelled => Refusal::Failed(Code::Cancelled, error.to_string()),
            PackError::Limit { name: MEMORY, .. } => Refusal::Failed(Code::ResourceExhausted, too_large(&error)),
            error => Refusal::Failed(Code::Internal, Chain(&error).to_string()),
        })?;
        let (file, facts) = compressor.finish().map_err(io)?;
        let file = file.into_inner().map_err(|error| io(error.into_error()))?;
        Ok(Packed { file: Arc::new(file), facts, media_type: self.media_type, report })
    }
}
