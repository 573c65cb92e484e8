//! What the layers ask for, and which device each piece of their contents lies in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::contents::in_place::{LocatedLayer, PlainLayer};
use crate::contents::{Contents, KeptLayer, Lies, Pieces};
use crate::core::digest::Digest;
use crate::core::record::{ContentId, Record};
use crate::erofs;
use crate::lowerdirs::Stamp;
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
    pub(super) stamp: Stamp,
    /// What the EROFS image says of it, for people.
    pub(super) tag: String,
}

#[derive(Debug)]
struct Layer {
    pieces: Pieces,
    /// Counted from 1, and where the layer begins in it.
    device: u16,
    start: u64,
    beside: u16,
}

impl Sources {
    /// Contents in content files.
    pub(super) fn of_content_files(contents: Contents) -> Result<Self, Error> {
        let mut sources = Self::default();
        for layer in contents.layers {
            let stamp = Stamp::of(layer.kept.data()).map_err(io("cannot look at a content file"))?;
            let tag = layer.diff_id.to_string();
            let device = sources.device(layer.kept.path(), stamp, tag);
            sources.layers.push(Layer { pieces: layer.pieces, device, start: 0, beside: 0 });
            sources.records.push(layer.record);
            sources.diff_ids.push(layer.diff_id);
            sources.losses.extend(layer.losses);
            sources.kept.push(layer.kept);
        }
        Ok(sources)
    }

    /// Contents in archives, and in a file beside them, if it has any bytes.
    pub(super) fn in_place(
        plain: &[PlainLayer],
        located: Vec<LocatedLayer>,
        beside: (&Path, &File),
    ) -> Result<Self, Error> {
        let failed = || io("cannot look at an archive");
        let mut sources = Self::default();
        for (plain, layer) in plain.iter().zip(located) {
            let stamp = Stamp::of_archive(&plain.file).map_err(failed())?;
            let device = sources.device(&plain.path, stamp, "archive".to_owned());
            sources.layers.push(Layer { pieces: layer.pieces, device, start: plain.start, beside: 0 });
            sources.records.push(layer.record);
            sources.diff_ids.extend(layer.diff_id);
            sources.losses.extend(layer.losses);
        }
        let stamp = Stamp::of(beside.1).map_err(failed())?;
        if stamp.size > 0 {
            let device = sources.device(beside.0, stamp, "beside".to_owned());
            sources.layers.iter_mut().for_each(|layer| layer.beside = device);
        }
        Ok(sources)
    }

    /// The number of a device, which may be there already.
    fn device(&mut self, path: &Path, stamp: Stamp, tag: String) -> u16 {
        let there = self.devices.iter().position(|device| device.path == path);
        let index = there.unwrap_or_else(|| {
            self.devices.push(Device { path: path.to_owned(), stamp, tag });
            self.devices.len() - 1
        });
        // One too many is an error of the plan.
        u16::try_from(index + 1).unwrap_or(u16::MAX)
    }

    /// The device table of an EROFS image.
    pub(super) fn table(&self) -> Vec<erofs::Device> {
        let device = |device: &Device| {
            let mut tag = [0; 64];
            let name = device.tag.as_bytes();
            let length = name.len().min(tag.len());
            tag[..length].copy_from_slice(&name[..length]);
            erofs::Device { tag, bytes: device.stamp.size }
        };
        self.devices.iter().map(device).collect()
    }
}

impl erofs::Contents for Sources {
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<erofs::Piece>) -> io::Result<()> {
        let layer = &self.layers[layer];
        pieces.extend(layer.pieces.of(content).iter().map(|piece| {
            let (device, offset) = match piece.lies {
                Lies::InLayer => (layer.device, layer.start + piece.offset),
                Lies::Beside => (layer.beside, piece.offset),
            };
            erofs::Piece { logical: piece.logical, length: piece.length, device, offset }
        }));
        Ok(())
    }

    fn read(&self, _: usize, _: ContentId, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("all contents lie in devices"))
    }
}
