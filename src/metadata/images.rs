//! Writes the EROFS images of a stack, and the description that lists them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::MetadataError;
use super::sources::Sources;
use crate::core::digest::{Algorithm, Hasher};
use crate::core::overlayfs::XattrNamespace;
use crate::core::stack::{Difference, Stack};
use crate::erofs::{self, BlockSize, Lost, Plan, Shape};
use crate::fs::Durability;
use crate::image::Image;
use crate::lowerdirs::{ContentDevice, ErofsLayout, FILE_NAME, Metadata, Stamp};
use crate::unpack::{Error, Loss, LossKind, Losses, Made, Options, io, reading};

/// How many EROFS images there are, and what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stacking {
    /// One for the whole stack, to be mounted alone: it shows everything as the image has it.
    #[default]
    Merged,
    /// One for the whole stack, to be the lower layer of a writable overlay.
    MergedBelow,
    /// One for each layer, to be the lower layers of an overlay.
    Layered,
}

impl Stacking {
    fn shape(self) -> Shape {
        match self {
            Self::Merged => Shape::Merged,
            Self::MergedBelow | Self::Layered => Shape::Layered(XattrNamespace::Trusted),
        }
    }
}

/// Where the description is to say that a device lies.
pub(super) type Place<'a> = &'a dyn Fn(&Path) -> String;

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
    let stack = Stack::replay(&sources.records, reading(options)).map_err(Error::from)?;
    let settings = erofs::Options {
        block_size: BlockSize::Sector,
        devices: sources.table(),
        selinux: options.selinux,
        cancel: options.cancel.clone(),
        ..erofs::Options::new(stacking.shape())
    };
    let mut losses = Losses::default();
    let mut images = Vec::new();
    let mut add = |name: String, stack: &Stack<'_>, difference: &Difference| {
        let mut lost = |lost: &Lost<'_>, path: &dyn Fn() -> crate::core::record::LayerPath| {
            let kind = match lost {
                Lost::WhiteoutDevice => LossKind::WhiteoutDevice,
                Lost::Xattr { .. } => LossKind::Xattr,
            };
            losses.add(kind, lost.detail(), path);
        };
        let plan = Plan::new(stack, difference, sources, &settings, &mut lost)?;
        images.push(write_one(directory, name, &plan, sources.devices.len(), options.durability())?);
        Ok::<_, MetadataError>(())
    };
    let made = match stacking {
        Stacking::Merged | Stacking::MergedBelow => {
            let whole = stack.whole();
            add("tree.erofs".to_owned(), &stack, &whole)?;
            Made::of(&stack, [&whole])
        }
        Stacking::Layered => {
            let layers = stack.layers().iter().enumerate().rev();
            let mut count = 0;
            for (index, difference) in layers.filter(|(_, difference)| !difference.entries().is_empty()) {
                add(format!("{index:04}.erofs"), &stack, difference)?;
                count += 1;
            }
            // Overlayfs mounts no single lower directory (rule O4).
            let nothing = Stack::replay(&[], reading(options)).map_err(Error::from)?;
            for name in ["empty", "empty-2"].iter().skip(count) {
                add(format!("{name}.erofs"), &nothing, &nothing.whole())?;
            }
            Made::of(&stack, stack.layers())
        }
    };
    let device = |device: &super::sources::Device| ContentDevice { path: place(&device.path), stamp: device.stamp };
    let layout = ErofsLayout {
        format: ErofsLayout::FORMAT,
        form: ErofsLayout::FORM.to_owned(),
        image_digest: image.manifest_digest().cloned(),
        config_digest: image.config.as_ref().map(|config| config.digest.clone()),
        diff_ids: sources.diff_ids.clone(),
        verified,
        merged: stacking != Stacking::Layered,
        images,
        devices: sources.devices.iter().map(device).collect(),
    };
    write_file(&directory.join(FILE_NAME), &layout.to_json(), options.durability())?;
    let mut all = sources.losses.clone();
    all.extend(losses.into_list());
    match all.first() {
        Some(first) if options.strict => Err(first.refused().into()),
        _ => Ok((all, made)),
    }
}

fn write_one(
    directory: &Path,
    name: String,
    plan: &Plan<'_, '_>,
    devices: usize,
    durability: Durability,
) -> Result<Metadata, MetadataError> {
    let path = directory.join(&name);
    let failed = || io(format!("cannot write {path:?}"));
    let file = File::create_new(&path).map_err(failed())?;
    let hashing = Hashing { out: file, hasher: Hasher::new(Algorithm::Sha256) };
    let mut out = BufWriter::with_capacity(1 << 20, hashing);
    plan.write(&mut out)?;
    let Hashing { out: file, hasher } =
        out.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed())?;
    durability.sync(&file).map_err(failed_errno(&path))?;
    let stamp = Stamp::of(&file).map_err(failed())?;
    Ok(Metadata { file: name, digest: hasher.finish(), stamp, devices: (0..devices).collect() })
}

/// Writes a small file.
pub(super) fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(io(format!("cannot write {path:?}")))?;
    file.write_all(bytes).map_err(io(format!("cannot write {path:?}")))?;
    durability.sync(&file).map_err(failed_errno(path))
}

fn failed_errno(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Error {
    io(format!("cannot write {path:?}"))
}

/// Hashes what is written.
struct Hashing {
    out: File,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
