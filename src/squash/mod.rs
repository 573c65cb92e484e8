//! Makes a new image from an image: layers squashed into one, paths excluded, attributes changed.
//!
//! A new layer is not the old one with entries edited, but what the replayed stack says it must hold, written anew:
//! sorted, with whiteouts only where they hide something, hard links right although their targets are gone. A layer
//! that nothing changes in stays as it is, byte by byte.

mod config;
mod layer;
mod manifest;
mod set;

use std::path::Path;

use layer::NewLayers;

use crate::core::stack::Stack;
use crate::export::{Spooled, needed_contents};
use crate::image::{Image, Layer};
use crate::unpack::{Error, Options, Progress, reading};

pub use set::filter_all;

/// Makes one layer of those from `from` on, counted from 0 at the bottom; those below stay. [`Options::filter`] is
/// applied to all.
///
/// The new layers' bytes lie in files without a name in `scratch`, a directory, and are gone when the image is.
///
/// # Errors
/// A damaged or hostile image, fewer layers than `from`, a scratch directory that cannot be written.
pub fn squash(
    image: &Image,
    from: usize,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let layers = image.layers.len();
    if from >= layers {
        return Err(Error::NothingToSquash { layers, from });
    }
    rewrite(image, Some(from), scratch, options, progress)
}

/// Applies [`Options::filter`] to every layer of an image; the layers that it changes nothing in stay.
///
/// # Errors
/// As [`squash`].
pub fn filter(image: &Image, scratch: &Path, options: &Options, progress: &dyn Progress) -> Result<Image, Error> {
    rewrite(image, None, scratch, options, progress)
}

fn rewrite(
    image: &Image,
    squash_from: Option<usize>,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let from = squash_from.unwrap_or(image.layers.len());
    let filters = !options.filter.is_empty();
    let mut spooled = Spooled::read(image, scratch, &|layer| filters || layer >= from, options, progress)?;
    let records = std::mem::take(&mut spooled.records);
    let stack = Stack::replay_as_one(&records, from, reading(options))?;

    let is_rewritten: Vec<bool> = (stack.layers().iter().enumerate())
        .map(|(index, difference)| index >= from || difference.is_filtered() || records[index].is_filtered)
        .collect();
    let rewritten =
        || stack.layers().iter().zip(&is_rewritten).filter(|(_, rewritten)| **rewritten).map(|(layer, _)| layer);
    // A hard link to a file far below needs that file's content (rule L2).
    let missing = needed_contents(&stack, rewritten(), &spooled.contents);
    if !missing.is_empty() {
        let is_wanted = |layer: usize| missing.contains(&layer);
        let again = Spooled::read(image, scratch, &is_wanted, options, progress)?;
        for (kept, read) in spooled.contents.iter_mut().zip(again.contents) {
            *kept = kept.take().or(read);
        }
    }

    let left_out = stack.layers().iter().map(crate::core::stack::Difference::left_out).sum();
    options.filter.exclude.count_left_out(left_out);

    let mut layers = Vec::new();
    let mut new = NewLayers::new(scratch)?;
    for (index, difference) in stack.layers().iter().enumerate() {
        layers.push(if is_rewritten[index] {
            new.write(&stack, difference, &spooled.contents, options)?
        } else {
            let stated = spooled.layers[index].diff_id.clone();
            Layer { diff_id: Some(stated), ..image.layers[index].clone() }
        });
    }
    if squash_from.is_none() && !is_rewritten.contains(&true) && options.filter.times.is_none() {
        return Ok(image.clone());
    }
    let config = match &image.config {
        Some(config) => Some(config::rewritten(config, squash_from, &image.layers, &layers, options.filter.times)?),
        None => None,
    };
    let manifest = image.manifest.as_ref().map(|manifest| manifest::without_new_layers(manifest, &is_rewritten));
    Ok(Image { name: image.name.clone(), manifest, config, layers, notices: image.notices.clone() })
}
