//! What the layers ask for, and which device each piece of their contents lies in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "containerd")]
use crate::below::Lower;
use crate::contents::in_place::{LocatedLayer, PlainLayer};
use crate::contents::{Contents, KeptContents, KeptLayer, Lies, Piece, Pieces};
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::record::{ChangeKind, ContentId, Record};
use crate::core::stack::{Difference, Stack, What};
use crate::erofs;
use crate::lowerdirs::{FileSeal, Stamp};
#[cfg(feature = "containerd")]
use crate::tree::TreeError;
use crate::unpack::{Error, Loss, io};

/// The layers of an image, bottom first.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) records: Vec<Record>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) losses: Vec<Loss>,
    pub(super) devices: Vec<Device>,
    /// What keeps content files in the cache.
    pub(super) kept: Vec<KeptLayer>,
    layers: Vec<Layer>,
}

/// A file that contents lie in.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) path: PathBuf,
    pub(super) seal: FileSeal,
    /// What the EROFS image says of it, for people.
    pub(super) tag: String,
    source: Source,
}

/// Where a device can be read from now.
#[derive(Debug)]
enum Source {
    /// Opened when it is needed: an image may have hundreds.
    Path(PathBuf),
    Open(Arc<File>),
}

#[derive(Debug)]
struct Layer {
    pieces: Pieces,
    /// Which device, and where the layer begins in it.
    device: usize,
    start: u64,
    beside: usize,
    /// Where its files are, if it is no layer, but what directories show.
    #[cfg(feature = "containerd")]
    lower: Option<Lower>,
}

impl Sources {
    /// Contents in content files.
    pub(super) fn of_content_files(contents: Contents) -> Self {
        let mut sources = Self::default();
        contents.layers.into_iter().for_each(|layer| sources.add(layer));
        sources
    }

    /// Adds a layer on top, whose contents lie in a content file.
    pub(super) fn add(&mut self, layer: KeptContents) {
        let tag = layer.diff_id.to_string();
        let path = layer.kept.path().to_owned();
        let source = Source::Path(path.clone());
        let device = self.device(Device { seal: layer.kept.seal().clone(), tag, source, path });
        self.layers.push(Layer::of(layer.pieces, device, 0));
        self.records.push(layer.record);
        self.diff_ids.push(layer.diff_id);
        self.losses.extend(layer.losses);
        self.kept.push(layer.kept);
    }

    /// Adds what directories show, as the lowest layer: what an image needs of its contents it carries.
    #[cfg(feature = "containerd")]
    pub(super) fn add_lower(&mut self, record: Record, lower: Lower) {
        self.layers.push(Layer { lower: Some(lower), ..Layer::of(Pieces::default(), 0, 0) });
        self.records.push(record);
    }

    /// Contents in archives, and in a file beside them, if it has any bytes.
    pub(super) fn in_place(
        plain: &[PlainLayer],
        located: Vec<LocatedLayer>,
        beside: (&Path, &File),
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let failed = || io("cannot look at an archive");
        let mut sources = Self::default();
        for (plain, layer) in plain.iter().zip(located) {
            // Its layers are what was checked of it, if anything was.
            let seal = FileSeal { stamp: Stamp::of(&plain.file).map_err(failed())?, verity: None };
            let source = Source::Open(Arc::clone(&plain.file));
            let device = sources.device(Device { path: plain.path.clone(), seal, tag: "archive".to_owned(), source });
            sources.layers.push(Layer::of(layer.pieces, device, plain.start));
            sources.records.push(layer.record);
            sources.diff_ids.extend(layer.diff_id);
            sources.losses.extend(layer.losses);
        }
        let seal = FileSeal::of(beside.1, cancel).map_err(failed())?;
        if seal.stamp.size > 0 {
            let source = Source::Open(Arc::new(beside.1.try_clone().map_err(failed())?));
            let device = sources.device(Device { path: beside.0.to_owned(), seal, tag: "beside".to_owned(), source });
            sources.layers.iter_mut().for_each(|layer| layer.beside = device);
        }
        Ok(sources)
    }

    /// The number of a device, which may be there already.
    fn device(&mut self, device: Device) -> usize {
        let there = self.devices.iter().position(|other| other.path == device.path);
        there.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        })
    }

    /// The devices that the files of a difference lie in, and no others: an image of it then is the same whatever else there is.
    pub(super) fn of_difference(&self, stack: &Stack<'_>, difference: &Difference) -> Used<'_> {
        let mut is_used = vec![false; self.devices.len()];
        let mut unused = is_used.len();
        let leaves = difference.entries().iter().filter_map(|entry| match entry.what {
            What::Leaf(inode) => Some(stack.origin(inode)),
            _ => None,
        });
        for (layer, change) in leaves {
            if unused == 0 {
                break;
            }
            if let ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } = change.kind {
                let layer = &self.layers[layer];
                for piece in layer.pieces.of(content) {
                    let was_used = std::mem::replace(&mut is_used[layer.holds(piece)], true);
                    unused -= usize::from(!was_used);
                }
            }
        }
        let devices: Vec<usize> = (0..self.devices.len()).filter(|&index| is_used[index]).collect();
        let mut numbers = vec![0; self.devices.len()];
        for (number, &index) in devices.iter().enumerate() {
            // One too many is an error of the plan.
            numbers[index] = u16::try_from(number + 1).unwrap_or(u16::MAX);
        }
        Used { sources: self, devices, numbers }
    }
}

impl Layer {
    fn of(pieces: Pieces, device: usize, start: u64) -> Self {
        Self {
            pieces,
            device,
            start,
            beside: 0,
            #[cfg(feature = "containerd")]
            lower: None,
        }
    }

    /// Opens a file that no device holds.
    #[cfg(feature = "containerd")]
    fn open(&self, content: ContentId) -> Option<io::Result<File>> {
        let lower = self.lower.as_ref()?;
        Some(lower.open(content).map_err(|error| match error {
            TreeError::Io { source, .. } => source,
            error => io::Error::other(error),
        }))
    }

    #[cfg(not(feature = "containerd"))]
    fn open(&self, _: ContentId) -> Option<io::Result<File>> {
        None
    }

    /// The device that a piece lies in.
    fn holds(&self, piece: &Piece) -> usize {
        match piece.lies {
            Lies::InLayer => self.device,
            Lies::Beside => self.beside,
        }
    }
}

/// Marks an offset in the file beside the archive, where the image carries what lies there.
const BESIDE: u64 = 1 << 63;

/// Some of the devices.
#[derive(Debug)]
pub(super) struct Used<'s> {
    sources: &'s Sources,
    /// Which they are, in the order in which the image numbers them.
    pub(super) devices: Vec<usize>,
    /// For each of the sources' devices its number in the image, counted from 1.
    numbers: Vec<u16>,
}

impl Used<'_> {
    /// The device table of an EROFS image.
    pub(super) fn table(&self) -> Vec<erofs::Device> {
        let device = |&index: &usize| {
            let device = &self.sources.devices[index];
            let mut tag = [0; 64];
            let name = device.tag.as_bytes();
            let length = name.len().min(tag.len());
            tag[..length].copy_from_slice(&name[..length]);
            erofs::Device { tag, bytes: device.seal.stamp.size }
        };
        self.devices.iter().map(device).collect()
    }
}

impl erofs::Contents for Used<'_> {
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<erofs::Piece>) -> io::Result<()> {
        let layer = &self.sources.layers[layer];
        if let Some(file) = layer.open(content) {
            let length = file?.metadata()?.len();
            let whole = erofs::Piece { logical: 0, length, device: erofs::Piece::CARRIED, offset: 0 };
            pieces.extend((length > 0).then_some(whole));
            return Ok(());
        }
        pieces.extend(layer.pieces.of(content).iter().map(|piece| {
            let offset = match piece.lies {
                Lies::InLayer => layer.start + piece.offset,
                Lies::Beside => piece.offset,
            };
            let device = self.numbers[layer.holds(piece)];
            erofs::Piece { logical: piece.logical, length: piece.length, device, offset }
        }));
        Ok(())
    }

    fn carried(&self, layer: usize, content: ContentId, pieces: &mut Vec<erofs::Piece>) -> io::Result<bool> {
        let layer = &self.sources.layers[layer];
        pieces.extend(layer.pieces.of(content).iter().map(|piece| {
            let offset = match piece.lies {
                Lies::InLayer => layer.start + piece.offset,
                Lies::Beside => piece.offset | BESIDE,
            };
            erofs::Piece { logical: piece.logical, length: piece.length, device: erofs::Piece::CARRIED, offset }
        }));
        Ok(true)
    }

    fn read(&self, layer: usize, content: ContentId, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let layer = &self.sources.layers[layer];
        if let Some(file) = layer.open(content) {
            return file?.read_exact_at(buffer, offset);
        }
        let device = if offset & BESIDE == 0 { layer.device } else { layer.beside };
        match &self.sources.devices[device].source {
            Source::Path(path) => File::open(path)?.read_exact_at(buffer, offset & !BESIDE),
            Source::Open(file) => file.read_exact_at(buffer, offset & !BESIDE),
        }
    }
}
