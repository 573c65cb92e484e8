//! The EROFS image of one layer, in a directory of the caller's: for who keeps layers himself, like containerd's snapshotters.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::MetadataError;
use super::images::{Stacking, TREE, Writer, description, write_file};
use super::shared::list_one;
use super::sources::Sources;
use crate::below::Lower;
use crate::contents::kept_layer;
use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Attributes;
use crate::fs::Work;
use crate::lowerdirs::{Check, FILE_NAME};
use crate::unpack::{Error, Loss, Options, check_memory, io, replay, unread};

/// The name of the result in the work directory.
const RESULT: &str = "result";

/// What a layer is put on. With nothing in it, it is an image's lowest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beneath {
    /// Directories that are read, the topmost first, with all that is below them.
    pub(crate) lower: Vec<PathBuf>,
    /// Above those the contents of layers, as [`keep_layer`](crate::contents::keep_layer) leaves them, the lowest first.
    pub(crate) contents: Vec<PathBuf>,
}

/// What became of a layer.
#[derive(Debug)]
pub(crate) struct LayerImage {
    /// Whether there is anything in the image, or it changes the root's attributes; else there is no image.
    pub(crate) has_changes: bool,
    /// The attributes of the root that is shown with the layer on top.
    pub(crate) root: Attributes,
    /// What the image does not hold, besides what reading the layer has told (rule A4).
    pub(crate) not_kept: Vec<Loss>,
}

/// Makes the EROFS image of a layer, as a lower directory of an overlay mount of what lies below it, with a `layflat.json`, which mounts it. What is there
/// is replaced.
///
/// # Errors
/// A layer that does not fit on what is below it, or not into an image; contents that are not as they were made, lower directories that cannot be
/// read, a destination that cannot be used or written.
pub(crate) fn layer_image(
    contents: &Path,
    beneath: &Beneath,
    destination: &Path,
    options: &Options,
) -> Result<LayerImage, MetadataError> {
    let mut sources = Sources::default();
    if !beneath.lower.is_empty() {
        let read = Lower::read(&beneath.lower, XattrNamespace::Trusted, &options.limits, &options.cancel);
        let (record, lower) = read.map_err(|error| unread(error, options))?;
        sources.add_lower(record, lower);
    }
    let check = Check { cancel: options.cancel.clone(), ..Check::default() };
    // Not more of them is read than may be.
    let mut memory = 0;
    for place in beneath.contents.iter().map(PathBuf::as_path).chain([contents]) {
        let layer = kept_layer(place, &check)?;
        if options.limits.limit_memory() {
            memory += layer.record.memory();
            check_memory(memory, options)?;
        }
        sources.add(layer);
    }
    let stack = replay(&sources.records, options)?;
    let (Some(difference), Some(diff_id)) = (stack.layers().last(), sources.diff_ids.last()) else {
        return Err(Error::Cancelled.into());
    };
    let has_changes = !difference.entries().is_empty();

    let failed = || io("cannot make the EROFS image of a layer");
    let work = Work::beside_itself(destination, true, options.durability()).map_err(Error::from)?;
    work.make(RESULT).map_err(failed())?;
    let place = work.path().join(RESULT);
    let mut layout = description(None, vec![diff_id.clone()]);
    let uuid = uuid(beneath, &sources.diff_ids);
    let mut writer = Writer::new(&place, &sources, Stacking::Layered, options).known_by(uuid);
    if has_changes {
        let image = writer.add(TREE, &stack, difference)?;
        list_one(&mut layout, image, &sources);
    }
    let not_kept = writer.losses();
    write_file(&place.join(FILE_NAME), &layout.to_json())?;
    work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    let root = if has_changes { stack.root_attributes(difference) } else { stack.root_attributes(&stack.whole()) };
    Ok(LayerImage { has_changes, root, not_kept })
}

/// A UUID that no other layer of a stack has.
fn uuid(beneath: &Beneath, diff_ids: &[Digest]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update((beneath.lower.len() as u64).to_le_bytes());
    diff_ids.iter().for_each(|diff_id| hash.update(format!("{diff_id}\n")));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    // As RFC 9562 has those that are made of anything (version 8).
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}
