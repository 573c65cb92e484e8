//! Copying: images out of a [source](crate::transport::source) and into a [store](crate::transport::store).
//!
//! What need not change keeps its bytes, and so its digests. Blobs that the store has are not asked for. All others go
//! as streams, several at a time, straight from where they are to where they will be, checked on the way; then come
//! configurations and manifests, and at the very end the names.

mod error;
mod finish;
mod format;
mod layers;
mod manifest;
mod publish;
mod referrers;
mod report;
mod transfer;

use std::collections::HashSet;
use std::num::NonZero;
use std::time::Instant;

use crate::blob::Compress;
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::limits::Limits;
use crate::image::Notice;
use crate::transport::source::{Named, Referrer, Tree};
use crate::transport::store::{Finished, Form, Store};
use crate::unpack::Progress;

pub use error::CopyError;
pub use format::{Format, FormatError};
pub use report::{BlobReport, CopyNote, CopyReport, ImageReport, Outcome};

/// How images are copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// How many blobs are copied at the same time, and how many threads compress; as many as there are processors when
    /// `None`.
    pub jobs: Option<NonZero<usize>>,
    /// How layers are to be compressed. As they are when `None`; those without a media type, which nobody has stored
    /// for good yet, with gzip: a docker archive's, bare ones, and those that were only just made.
    pub compression: Option<Compress>,
    /// Whether `compression` is for those without a media type only; all others stay as they are.
    pub compress_new_only: bool,
    /// In which words manifests are stored.
    pub format: Format,
    /// Send layers to a registry too that are marked as non-distributable, and that their descriptors say to be had
    /// elsewhere.
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
    copy_with_referrers(images, &[], store, options, progress)
}

/// Like [`copy`], with the referrers of the images.
///
/// # Errors
/// As for [`copy`]; a store that holds images only.
pub fn copy_with_referrers(
    images: &[Named],
    referrers: &[Referrer],
    store: Box<dyn Store>,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport, CopyError> {
    let started = Instant::now();
    check(store.form(), options)?;
    referrers::check(referrers, store.form())?;
    let (images, left_out) = takable(images, store.form(), options)?;
    // A name that cannot be is better known before the blobs have come.
    let names = images.iter().map(|image| store.names(&image.names, options.several)).collect::<Result<Vec<_>, _>>()?;
    let referring = referrers::as_named(referrers);
    let all: Vec<&Named> = images.iter().copied().chain(&referring).collect();
    let tasks = layers::plan(&all, store.as_ref(), options)?;
    let placed = transfer::run(&tasks, store.as_ref(), options, progress)?;
    progress.settling();

    let mut finisher = finish::Finisher::new(store.as_ref(), options.format, &tasks, &placed);
    let mut done = Vec::new();
    for image in &all {
        if options.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        done.push(finisher.finish(&image.content)?);
    }
    let of_referrers = done.split_off(images.len());
    let mut publisher = publish::Publisher::new(store.as_ref(), options.format);
    let mut finished = Vec::new();
    let mut reports = Vec::new();
    let mut kept = HashSet::new();
    for (done, names) in done.into_iter().zip(names) {
        let config_digest = done.saved.as_ref().map(|(config, _)| config.clone());
        let own = done.manifest.as_ref().map(|manifest| manifest.digest.clone());
        let listed: Vec<Digest> = done.listed.iter().map(|manifest| manifest.digest.clone()).collect();
        let shown = publisher.show(names, done)?;
        let now = shown.manifest.as_ref().map(|manifest| manifest.digest.clone());
        // Converted, what it lists has other digests, too.
        kept.extend(listed.into_iter().filter(|_| now == own));
        kept.extend(now);
        let manifest_digest = shown.manifest.as_ref().map(|manifest| manifest.digest.clone());
        reports.push(ImageReport { names: shown.names.clone(), manifest_digest, config_digest });
        finished.push(shown);
    }
    let of_publishing = publisher.notes();
    let (referring, lost) = referrers::show(store.as_ref(), referrers, of_referrers, &kept)?;
    let report = |shown: &Finished| ImageReport {
        names: shown.names.clone(),
        manifest_digest: shown.manifest.as_ref().map(|manifest| manifest.digest.clone()),
        config_digest: None,
    };
    let referring_reports = referring.iter().map(report).collect();
    finished.extend(referring);
    let mut blobs = report::of_tasks(&tasks, &placed);
    let of_images = images.iter().flat_map(|image| notices(&image.content)).map(CopyNote::Image);
    let of_finishing = [finisher.notes(&mut blobs), of_publishing, lost].concat();
    let notes = left_out.into_iter().map(CopyNote::Text);
    let notes = notes.chain(of_images).chain(not_pushed(&tasks)).chain(of_finishing.into_iter().map(CopyNote::Text));
    let notes = notes.collect();
    store.publish(&finished)?;
    Ok(CopyReport {
        images: reports,
        referrers: referring_reports,
        blobs,
        notes,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The irregularities of images.
fn notices(tree: &Tree) -> Vec<Notice> {
    match tree {
        // A note about using such a layer is of no interest when it is only copied.
        Tree::Image(image) => {
            let told = |notice: &&Notice| !matches!(notice, Notice::NonDistributable { .. });
            image.notices.iter().filter(told).cloned().collect()
        }
        Tree::Index(index) => index.entries.iter().flat_map(notices).collect(),
        Tree::Attachment(_) => Vec::new(),
    }
}

/// Which layers were not pushed.
fn not_pushed(tasks: &[layers::Task]) -> impl Iterator<Item = CopyNote> {
    tasks.iter().filter(|task| task.way == layers::Way::LeftOut).map(|task| {
        let digest = task.blob.digest().map(ToString::to_string).unwrap_or_default();
        CopyNote::NotPushed { layer: task.what.clone(), digest }
    })
}

/// Refuses what the store cannot hold.
fn check(form: Form, options: &CopyOptions) -> Result<(), CopyError> {
    match (form, options.format, options.compression) {
        (Form::Saved, Format::Oci, _) => Err(CopyError::NoOciManifests),
        (Form::Manifests { docker: false }, Format::Docker, _) => Err(CopyError::NoDockerManifests),
        (Form::Manifests { .. }, Format::Docker, Some(compression))
            if !format::has_layers_of(compression.compression()) =>
        {
            Err(CopyError::NotInDocker(compression.compression().name()))
        }
        (Form::Saved, _, Some(compression)) if compression != Compress::None => {
            Err(CopyError::Uncompressed(compression))
        }
        _ => Ok(()),
    }
}

/// The images that the store can hold, and what is to be said of the others. Where all were asked for, what is not an
/// image is left out.
fn takable<'a>(
    images: &'a [Named],
    form: Form,
    options: &CopyOptions,
) -> Result<(Vec<&'a Named>, Vec<String>), CopyError> {
    if form != Form::Saved {
        return Ok((images.iter().collect(), Vec::new()));
    }
    let (mut takable, mut left_out) = (Vec::new(), Vec::new());
    for image in images {
        let name = image.names.join(" ");
        match &image.content {
            Tree::Image(_) => takable.push(image),
            // What lists nothing but artifacts is one.
            Tree::Index(index)
                if options.several && index.entries.iter().all(|entry| matches!(entry, Tree::Attachment(_))) =>
            {
                left_out.push(format!("left out {name}: it lists no image"));
            }
            Tree::Index(_) => return Err(CopyError::Index),
            Tree::Attachment(other) if options.several && images.len() > 1 => {
                left_out.push(format!("left out {name}: it is {}, not an image", other.kind));
            }
            Tree::Attachment(other) => return Err(CopyError::Artifact { name, what: other.kind.clone() }),
        }
    }
    Ok((takable, left_out))
}
