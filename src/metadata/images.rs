//! Writes the EROFS images of a stack, and the description that lists them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::MetadataError;
use super::sources::Sources;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::LayerPath;
use crate::core::stack::{Difference, Stack};
use crate::erofs::{self, BlockSize, Lost, Plan, Shape};
use crate::image::Image;
use crate::lowerdirs::{ContentDevice, ErofsLayout, FILE_NAME, MeasuredFile, Metadata};
use crate::parallel;
use crate::unpack::{Error, Loss, LossKind, Losses, Made, Options, io, reading};

/// How many EROFS images there are, and what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stacking {
    /// One for the whole stack, to be mounted alone: it shows everything as the image has it.
    #[default]
    Merged,
    /// The same, for erofsfuse as well as for the kernel: a little larger.
    MergedForErofsfuse,
    /// One for the whole stack, to be the lower layer of a writable overlay.
    MergedBelow,
    /// One for each layer, to be the lower layers of an overlay.
    Layered,
}

impl Stacking {
    fn shape(self) -> Shape {
        match self {
            Self::Merged | Self::MergedForErofsfuse => Shape::Merged,
            Self::MergedBelow | Self::Layered => Shape::Layered(XattrNamespace::Trusted),
        }
    }
}

/// Where the description is to say that a device lies.
pub(super) type Place<'a> = &'a dyn Fn(&Path) -> String;

/// The image of a whole stack, or of a single layer in a directory of its own.
pub(super) const TREE: &str = "tree.erofs";

/// Writes EROFS images into a directory, and counts what they do not hold (rule A4).
pub(super) struct Writer<'a> {
    directory: &'a Path,
    sources: &'a Sources,
    options: &'a Options,
    stacking: Stacking,
    uuid: [u8; 16],
    losses: Losses,
}

impl<'a> Writer<'a> {
    pub(super) fn new(directory: &'a Path, sources: &'a Sources, stacking: Stacking, options: &'a Options) -> Self {
        Self { directory, sources, options, stacking, uuid: [0; 16], losses: Losses::default() }
    }

    /// The same with a UUID for the images. By it overlayfs knows which lower layer a file comes from that was copied up, so that all its names have one
    /// inode; it looks for that only where each lower layer has a UUID of its own (ovl_lower_uuid_ok).
    #[cfg(feature = "containerd")]
    pub(super) fn known_by(self, uuid: [u8; 16]) -> Self {
        Self { uuid, ..self }
    }

    /// Writes an image of what a directory must hold.
    pub(super) fn add(
        &mut self,
        name: &str,
        stack: &Stack<'_>,
        difference: &Difference,
    ) -> Result<Metadata, MetadataError> {
        let used = self.sources.of_difference(stack, difference);
        let settings = erofs::Options {
            block_size: BlockSize::Sector,
            devices: used.table(),
            for_erofsfuse: self.stacking == Stacking::MergedForErofsfuse,
            selinux: self.options.selinux,
            uuid: self.uuid,
            jobs: parallel::jobs(self.options.jobs, 0),
            cancel: self.options.cancel.clone(),
            ..erofs::Options::new(self.stacking.shape())
        };
        let losses = &mut self.losses;
        let mut lost = |lost: &Lost<'_>, path: &dyn Fn() -> LayerPath| {
            let kind = match lost {
                Lost::WhiteoutDevice => LossKind::WhiteoutDevice,
                Lost::Time => LossKind::Time,
                Lost::Xattr { .. } => LossKind::Xattr,
            };
            losses.add(kind, lost.detail(), path);
        };
        let plan = Plan::new(stack, difference, &used, &settings, &mut lost)?;
        let path = self.directory.join(name);
        let failed = || io(format!("cannot write {path:?}"));
        let file = File::create_new(&path).map_err(failed())?;
        let mut out = MeasuredFile::new(file);
        plan.write(&mut out)?;
        let (_, seal) = out.finish().map_err(failed())?;
        Ok(Metadata { file: name.to_owned(), seal, devices: used.devices })
    }

    /// Writes images of nothing, of which an overlay with so few layers has need: overlayfs mounts no single lower directory (rule O4).
    pub(super) fn add_missing(&mut self, images: &mut Vec<Metadata>) -> Result<(), MetadataError> {
        let nothing = Stack::replay_shown(&[], reading(self.options)).map_err(Error::from)?;
        for name in ["empty.erofs", "empty-2.erofs"].into_iter().skip(images.len()) {
            images.push(self.add(name, &nothing, &nothing.whole())?);
        }
        Ok(())
    }

    /// What the images do not hold.
    pub(super) fn losses(self) -> Vec<Loss> {
        self.losses.into_list()
    }
}

/// Writes the images and the description into a directory. Returns what the images do not hold (rule A4), and what they do.
pub(super) fn write(
    directory: &Path,
    image: &Image,
    sources: &Sources,
    stacking: Stacking,
    verified: bool,
    place: Place<'_>,
    options: &Options,
) -> Result<(Vec<Loss>, Made), MetadataError> {
    let replay = if stacking == Stacking::Layered { Stack::replay } else { Stack::replay_shown };
    let stack = replay(&sources.records, reading(options)).map_err(Error::from)?;
    let mut writer = Writer::new(directory, sources, stacking, options);
    let mut images = Vec::new();
    let made = match stacking {
        Stacking::Merged | Stacking::MergedForErofsfuse | Stacking::MergedBelow => {
            let whole = stack.whole();
            images.push(writer.add(TREE, &stack, &whole)?);
            Made::of(&stack, [&whole])
        }
        Stacking::Layered => {
            let layers = stack.layers().iter().enumerate().rev();
            for (index, difference) in layers.filter(|(_, difference)| !difference.entries().is_empty()) {
                images.push(writer.add(&format!("{index:04}.erofs"), &stack, difference)?);
            }
            writer.add_missing(&mut images)?;
            Made::of(&stack, stack.layers())
        }
    };
    let device =
        |device: &super::sources::Device| ContentDevice { path: place(&device.path), seal: device.seal.clone() };
    let layout = ErofsLayout {
        verified,
        merged: stacking != Stacking::Layered,
        for_erofsfuse: stacking == Stacking::MergedForErofsfuse,
        images,
        devices: sources.devices.iter().map(device).collect(),
        ..description(Some(image), sources.diff_ids.clone())
    };
    write_file(&directory.join(FILE_NAME), &layout.to_json())?;
    let mut all = sources.losses.clone();
    all.extend(writer.losses());
    match all.first() {
        Some(first) if options.strict => Err(first.refused().into()),
        _ => Ok((all, made)),
    }
}

/// A description without images, of an image or of what several have in common.
pub(super) fn description(image: Option<&Image>, diff_ids: Vec<crate::core::digest::Digest>) -> ErofsLayout {
    ErofsLayout {
        format: ErofsLayout::FORMAT,
        form: ErofsLayout::FORM.to_owned(),
        image_digest: image.and_then(|image| image.manifest_digest().cloned()),
        config_digest: image.and_then(|image| image.config.as_ref()).map(|config| config.digest.clone()),
        diff_ids,
        verified: true,
        merged: false,
        for_erofsfuse: false,
        images: Vec::new(),
        devices: Vec::new(),
    }
}

/// Writes a small file.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(io(format!("cannot write {path:?}")))?;
    file.write_all(bytes).map_err(io(format!("cannot write {path:?}")))
}
