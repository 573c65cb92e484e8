//! Copying: images out of a [source](crate::source) and into a [store](crate::store).
//!
//! What need not change keeps its bytes, and so its digests. Blobs that the store has are not asked for. All others go as streams, several at a
//! time, straight from where they are to where they will be, checked on the way; then come configurations and manifests, and at the very end
//! the names.

mod error;
mod finish;
mod layers;
mod manifest;
mod report;
mod transfer;

use std::num::NonZero;
use std::time::Instant;

use crate::blob::Compress;
use crate::image::Notice;
use crate::options::{Cancel, Limits};
use crate::report::Progress;
use crate::source::{Named, Tree};
use crate::store::{Finished, Form, Store};

pub use error::CopyError;
pub use report::{BlobReport, CopyReport, ImageReport, Outcome};

/// How images are copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// How many blobs are copied at the same time, and how many threads compress; as many as there are processors when `None`.
    pub jobs: Option<NonZero<usize>>,
    /// How layers are to be compressed. As they are when `None`; those without a media type, which nobody has stored for good yet, with gzip:
    /// a docker archive's, bare ones, and those that were only just made.
    pub compression: Option<Compress>,
    /// Send layers to a registry too that are marked as non-distributable, and that their descriptors say to be had elsewhere.
    pub allow_nondistributable: bool,
    /// Whether several images come from one source, each to keep its own tag.
    pub several: bool,
    /// The most that an image may ask for (rule S4).
    pub limits: Limits,
    /// Set from another thread or a signal handler to stop early; nothing is left behind.
    pub cancel: Cancel,
}

/// Copies images into a store, and shows them there.
///
/// # Errors
/// A blob that is not what the image states, a store that cannot take the images. Nothing of them is to be seen then.
pub fn copy(
    images: &[Named],
    store: Box<dyn Store>,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport, CopyError> {
    let started = Instant::now();
    check(images, store.as_ref(), options)?;
    // A name that cannot be is better known before the blobs have come.
    let names = images.iter().map(|image| store.names(&image.names, options.several)).collect::<Result<Vec<_>, _>>()?;
    let tasks = layers::plan(images, store.as_ref(), options)?;
    let placed = transfer::run(&tasks, store.as_ref(), options, progress)?;
    progress.settling();

    let mut finisher = finish::Finisher::new(store.as_ref(), &tasks, &placed);
    let mut finished = Vec::new();
    let mut reports = Vec::new();
    for (image, names) in images.iter().zip(names) {
        if options.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        let done = finisher.finish(&image.content)?;
        reports.push(ImageReport {
            names: names.clone(),
            manifest_digest: done.manifest.as_ref().map(|manifest| manifest.digest.clone()),
            config_digest: done.saved.as_ref().map(|(config, _)| config.clone()),
        });
        let saved = done.saved.filter(|_| store.form() == Form::Saved);
        finished.push(Finished { names, manifest: done.manifest, saved });
    }
    let mut blobs = report::of_tasks(&tasks, &placed);
    let mut notes: Vec<String> = images.iter().flat_map(|image| notices(&image.content)).collect();
    notes.extend(left_out(&tasks));
    notes.extend(finisher.notes(&mut blobs));
    store.publish(&finished)?;
    Ok(CopyReport { images: reports, blobs, notes, seconds: started.elapsed().as_secs_f64() })
}

/// What is not as it should be about images.
fn notices(tree: &Tree) -> Vec<String> {
    match tree {
        // That a layer is used of which that goes without saying is no news to who only hands it on.
        Tree::Image(image) => {
            let told = |notice: &&Notice| !matches!(notice, Notice::NonDistributable { .. });
            image.notices.iter().filter(told).map(ToString::to_string).collect()
        }
        Tree::Index(index) => index.entries.iter().flat_map(notices).collect(),
        Tree::Attachment(_) => Vec::new(),
    }
}

/// Which layers were not sent.
fn left_out(tasks: &[layers::Task]) -> impl Iterator<Item = String> {
    tasks.iter().filter(|task| task.way == layers::Way::LeftOut).map(|task| {
        let digest = task.blob.digest().map(ToString::to_string).unwrap_or_default();
        format!(
            "{}, {digest}, is non-distributable and was not pushed: it is to be had where its descriptor says (--allow-nondistributable pushes it)",
            task.what
        )
    })
}

/// Refuses what the store cannot hold.
fn check(images: &[Named], store: &dyn Store, options: &CopyOptions) -> Result<(), CopyError> {
    if store.form() != Form::Saved {
        return Ok(());
    }
    if images.iter().any(|image| !matches!(image.content, Tree::Image(_))) {
        return Err(CopyError::Index);
    }
    match options.compression {
        None | Some(Compress::None) => Ok(()),
        Some(compression) => Err(CopyError::Uncompressed(compression)),
    }
}
