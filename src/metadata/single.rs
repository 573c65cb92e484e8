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
use crate::core::stack::{Difference, GrowingStack, Stack};
use crate::fs::Work;
use crate::lowerdirs::{Check, ErofsLayout, FILE_NAME};
use crate::unpack::{Error, Loss, Options, check_memory, io, reading, unread};

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

/// Layers on one another, as far as the image of the next one on top needs to know them: names, attributes, and where contents lie.
#[derive(Debug, Default)]
pub(crate) struct Lowers {
    stack: GrowingStack,
    /// Without their records, which the stack has.
    sources: Sources,
    /// How many directories are the lowest of them.
    directories: u64,
    /// Bytes that it takes, about.
    memory: u64,
}

impl Lowers {
    /// Reads what lies below a layer.
    ///
    /// # Errors
    /// Contents that are not as they were made, lower directories that cannot be read.
    pub(crate) fn read(beneath: &Beneath, options: &Options) -> Result<Self, Error> {
        let mut lowers = Self::default();
        if !beneath.lower.is_empty() {
            let read = Lower::read(&beneath.lower, XattrNamespace::Trusted, &options.limits, &options.cancel);
            let (record, lower) = read.map_err(|error| unread(error, options))?;
            lowers.directories = beneath.lower.len() as u64;
            lowers.sources.add_lower(record, lower);
            lowers.grow(options)?;
        }
        // Not more of them is read than may be.
        beneath.contents.iter().try_for_each(|contents| lowers.add(contents, options))?;
        Ok(lowers)
    }

    /// Bytes of memory that it takes, about (rule S10).
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// How many layers there are, if none of them are directories.
    pub(crate) fn layers(&self) -> Option<usize> {
        (self.directories == 0).then(|| self.stack.len())
    }

    fn add(&mut self, contents: &Path, options: &Options) -> Result<(), Error> {
        let check = Check { cancel: options.cancel.clone(), ..Check::default() };
        self.sources.add(kept_layer(contents, &check)?);
        self.grow(options)
    }

    /// Gives the stack the records that were read.
    fn grow(&mut self, options: &Options) -> Result<(), Error> {
        for record in self.sources.records.drain(..) {
            self.memory = self.memory.saturating_add(record.memory());
            check_memory(self.memory, options)?;
            self.stack.push(record);
        }
        Ok(())
    }
}

/// Makes the EROFS image of a layer, as a lower directory of an overlay mount of what lies below it, with a `layflat.json`, which mounts it. What is there
/// is replaced. What the image of the next layer on top may be made of comes with it.
///
/// # Errors
/// A layer that does not fit on what is below it, or not into an image; contents that are not as they were made, a destination that cannot be used or
/// written. Then what was read of the layers below is lost.
pub(crate) fn layer_image(
    contents: &Path,
    mut lowers: Lowers,
    destination: &Path,
    options: &Options,
) -> Result<(LayerImage, Lowers), MetadataError> {
    lowers.add(contents, options)?;
    let Lowers { stack, sources, directories, .. } = &mut lowers;
    let own = stack.len() - 1;
    let show = |stack: &Stack<'_>| image(stack, own, sources, *directories, destination, options);
    let made = stack.replay(reading(options), |stack, _| show(stack)).map_err(Error::from)??;
    Ok((made, lowers))
}

/// Makes the EROFS image of all that layers show together, as the lowest directory of an overlay mount, which stands for them. None of them may be
/// directories.
///
/// # Errors
/// As [`layer_image`].
pub(crate) fn whole_image(lowers: &mut Lowers, destination: &Path, options: &Options) -> Result<(), MetadataError> {
    let Lowers { stack, sources, .. } = lowers;
    let show = |stack: &Stack<'_>| {
        let layout = ErofsLayout { merged: true, ..description(None, sources.diff_ids.clone()) };
        let uuid = uuid(WHOLE, &sources.diff_ids);
        // What it does not hold was told when the layers' own were made.
        place(layout, uuid, (stack, Some(&stack.whole())), sources, Stacking::MergedBelow, destination, options)
            .map(drop)
    };
    stack.replay(reading(options), |stack, _| show(stack)).map_err(Error::from)?
}

fn image(
    stack: &Stack<'_>,
    own: usize,
    sources: &Sources,
    directories: u64,
    destination: &Path,
    options: &Options,
) -> Result<LayerImage, MetadataError> {
    let (Some(difference), Some(diff_id)) = (stack.layers().get(own), sources.diff_ids.last()) else {
        return Err(Error::Cancelled.into());
    };
    let has_changes = !difference.entries().is_empty();

    let layout = description(None, vec![diff_id.clone()]);
    let uuid = uuid(directories, &sources.diff_ids);
    let shown = (stack, has_changes.then_some(difference));
    let not_kept = place(layout, uuid, shown, sources, Stacking::Layered, destination, options)?;
    let root = if has_changes { stack.root_attributes(difference) } else { stack.shown_root() };
    Ok(LayerImage { has_changes, root, not_kept })
}

/// Puts a directory with a description in its place, and an image, if there is anything to be in it. Returns what that does not hold.
fn place(
    mut layout: ErofsLayout,
    uuid: [u8; 16],
    (stack, shown): (&Stack<'_>, Option<&Difference>),
    sources: &Sources,
    stacking: Stacking,
    destination: &Path,
    options: &Options,
) -> Result<Vec<Loss>, MetadataError> {
    let failed = || io("cannot make the EROFS image of a layer");
    let work = Work::beside_itself(destination, true, options.durability()).map_err(Error::from)?;
    work.make(RESULT).map_err(failed())?;
    let place = work.path().join(RESULT);
    let mut writer = Writer::new(&place, sources, stacking, options).known_by(uuid);
    if let Some(difference) = shown {
        let image = writer.add(TREE, stack, difference)?;
        list_one(&mut layout, image, sources);
    }
    let not_kept = writer.losses();
    write_file(&place.join(FILE_NAME), &layout.to_json())?;
    work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    Ok(not_kept)
}

/// Stands for the number of directories in the UUID of an image of several layers.
const WHOLE: u64 = u64::MAX;

/// A UUID that no other image of a stack has.
fn uuid(directories: u64, diff_ids: &[Digest]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(directories.to_le_bytes());
    diff_ids.iter().for_each(|diff_id| hash.update(format!("{diff_id}\n")));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    // As RFC 9562 has those that are made of anything (version 8).
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}
