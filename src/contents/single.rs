//! The contents of one layer, in a directory of the caller's: for who keeps layers himself, like containerd's snapshotters, and not in a cache.

use std::path::Path;

use super::store::{KeptContents, at, data, describe};
use super::write::ContentWriter;
use crate::cache::Of;
use crate::core::filter::Filter;
use crate::core::layer::read_layer;
use crate::fs::{Durability, Work};
use crate::image::{Image, Layer};
use crate::lowerdirs::Check;
use crate::unpack::read::{Extracted, read_layers};
use crate::unpack::{Error, LayerOver, NoProgress, Options, io};

/// The name of the result in the work directory.
const RESULT: &str = "result";

/// Reads a layer into a directory: its content file, and what is known of it. A filter of `options` is passed over.
///
/// The directory appears whole or not at all (rule S2); what is there is replaced, if [`Options::replace`] is set. It is not waited for until it
/// is on disk.
///
/// # Errors
/// A damaged or hostile layer, a digest that is not the stated one, a destination that cannot be used or written.
pub(crate) fn keep_layer(layer: &Layer, destination: &Path, options: &Options) -> Result<LayerOver, Error> {
    let work = Work::beside_itself(destination, options.replace, Durability::Unsynced)?;
    const FAILED: &str = "cannot keep the contents of a layer";
    work.make(RESULT).map_err(io(FAILED))?;
    let place = work.path().join(RESULT);
    let image = Image { name: None, manifest: None, config: None, layers: vec![layer.clone()], notices: Vec::new() };
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let read = read_layers(&image, &[0], options, &NoProgress, &|_, stream, read, tell| {
        let mut writer = ContentWriter::new(data(&place)?, stream.stream.pace());
        let record = read_layer(stream, &mut writer, read, tell)?;
        Ok((record, writer.finish()?))
    })?;
    let Extracted { record, facts, kept, .. } = read.into_iter().next().ok_or(Error::Cancelled)?;
    let entries = record.changes.len() as u64;
    let (index, _) = describe(&place, facts.diff_id.clone(), record, kept).map_err(io(FAILED))?;
    work.publish(RESULT, |_| Ok(()))?;
    Ok(LayerOver {
        digest: facts.digest,
        diff_id: facts.diff_id,
        expanded: facts.expanded,
        entries,
        not_kept: index.losses,
    })
}

/// What [`keep_layer`] has left in a directory.
///
/// # Errors
/// It is not as it was made (rule S8).
pub(crate) fn kept_layer(place: &Path, check: &Check) -> Result<KeptContents, Error> {
    let damaged = || Error::Description { path: place.to_owned(), problem: "it is not as it was made".to_owned() };
    at(Of::Own, place, check).ok_or_else(damaged)
}
