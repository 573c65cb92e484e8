//! Files of a tree as entries of a layer.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::error::PackError;
use super::inside::{self, Unmapped};
use super::{Meaning, PackOptions, PackReport};
use crate::below::{Overlay, Source};
use crate::core::layer::{Content, LayerWriter, Special, WriteOptions};
use crate::core::record::{Attributes, DeviceKind, LayerPath, WHITEOUT};
use crate::core::tar::Fragment;
use crate::core::text::Printable;
use crate::tree::{Snapshot, TreeKind};
use crate::unpack::{LossKind, Losses};

/// A layer in the making.
pub(super) struct Packing<'a, W: Write> {
    /// An inode is a tree, and what it is in that.
    writer: LayerWriter<W, (usize, (u64, u64))>,
    trees: &'a [Snapshot],
    /// Overlayfs' words, to be taken out; in a whole tree they are data.
    overlay: Option<Overlay>,
    options: &'a PackOptions,
    losses: Losses,
}

impl<'a, W: Write> Packing<'a, W> {
    pub(super) fn new(output: W, trees: &'a [Snapshot], overlay: Option<Overlay>, options: &'a PackOptions) -> Self {
        let write = WriteOptions { selinux: options.selinux, cancel: options.cancel.clone() };
        Self { writer: LayerWriter::new(output, write), trees, overlay, options, losses: Losses::default() }
    }

    pub(super) fn finish(self, meaning: Meaning) -> Result<PackReport, PackError> {
        let finished = self.writer.finish();
        let (_, written) = finished.map_err(|error| PackError::Io { path: LayerPath::root(), error })?;
        let not_kept = self.losses.into_list();
        Ok(PackReport { meaning, entries: written.entries, whiteouts: written.whiteouts, not_kept })
    }

    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<(), PackError> {
        match self.wanted(path)? {
            Some(path) => Ok(self.writer.whiteout(&path)?),
            None => Ok(()),
        }
    }

    pub(super) fn opaque(&mut self, directory: &[u8]) -> Result<(), PackError> {
        match self.wanted(directory)? {
            Some(directory) => Ok(self.writer.opaque(&directory)?),
            None => Ok(()),
        }
    }

    pub(super) fn directory(&mut self, path: &[u8], source: Source) -> Result<(), PackError> {
        let Some(path) = self.wanted(path)? else { return Ok(()) };
        if path.is_root() && self.options.without_root {
            return Ok(());
        }
        let attributes = self.attributes(source, &path);
        Ok(self.writer.directory(&path, &attributes)?)
    }

    /// Writes a file that is not a directory, with the data of another one where its own is there.
    pub(super) fn leaf(&mut self, path: &[u8], source: Source, data: Source) -> Result<(), PackError> {
        let Some(path) = self.wanted(path)? else { return Ok(()) };
        let found = self.trees[source.tree].entry(source.node);
        let attributes = self.attributes(source, &path);
        let inode = Some((source.tree, found.inode));
        let special = match &found.kind {
            TreeKind::Socket => {
                self.losses.add(LossKind::Socket, "", || path);
                return Ok(());
            }
            TreeKind::Ghost | TreeKind::Directory => return Ok(()),
            TreeKind::File { size } => {
                let tree = &self.trees[data.tree];
                let size = match tree.entry(data.node).kind {
                    TreeKind::File { size } => size,
                    _ => *size,
                };
                let open = || {
                    let file = tree.open_file(data.node)?;
                    let fragments = fragments(&file, size);
                    let fragments = fragments.map_err(|error| PackError::Io { path: path.clone(), error })?.into();
                    Ok(Content { fragments, read: move |offset, piece: &mut [u8]| read(&file, offset, piece) })
                };
                return self.writer.file(&path, &attributes, size, inode, open);
            }
            TreeKind::Symlink { target } => Special::Symlink(target),
            TreeKind::CharacterDevice(major, minor) => Special::Device(DeviceKind::Character, *major, *minor),
            TreeKind::BlockDevice(major, minor) => Special::Device(DeviceKind::Block, *major, *minor),
            TreeKind::Fifo => Special::Fifo,
        };
        Ok(self.writer.special(&path, &attributes, special, inode)?)
    }

    /// The path in the layer, of what is not left out.
    fn wanted(&self, path: &[u8]) -> Result<Option<LayerPath>, PackError> {
        let path = layer_path(path)?;
        Ok((!self.options.filter.excludes(&path)).then_some(path))
    }

    fn attributes(&mut self, source: Source, path: &LayerPath) -> Attributes {
        let entry = self.trees[source.tree].entry(source.node);
        let xattrs = match self.overlay {
            Some(overlay) => overlay.cleaned(&entry.xattrs),
            None => entry.xattrs.clone(),
        };
        let mut attributes = entry.attributes(xattrs);
        // What lies below has the ids of images.
        if let (0, Some(maps)) = (source.tree, &self.options.id_maps) {
            let Unmapped { owner, xattrs } = inside::turn(&mut attributes, maps);
            if owner {
                self.losses.add(LossKind::Unmapped, "the id map does not have it", || path.clone());
            }
            for name in xattrs {
                let detail = format!("{}: the id map does not have its ids", Printable(&name));
                self.losses.add(LossKind::Xattr, detail, || path.clone());
            }
        }
        let _ = self.options.filter.change(&mut attributes);
        attributes
    }
}

fn read(file: &File, offset: u64, piece: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(piece, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("it became shorter while it was read"),
        _ => error,
    })
}

/// The parts of a file that are no holes; all of it, where the file system does not say.
fn fragments(file: &File, size: u64) -> io::Result<Vec<Fragment>> {
    let mut fragments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(vec![Fragment { offset: 0, length: size }]),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= size {
            break;
        }
        fragments.push(Fragment { offset: start, length: end - start });
        at = end;
    }
    Ok(fragments)
}

/// A path of a tree on disk: it cannot climb, but it may be a whiteout's.
fn layer_path(path: &[u8]) -> Result<LayerPath, PackError> {
    let path = LayerPath::of_components(path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()));
    match path.split_last() {
        Some((_, name)) if name.starts_with(WHITEOUT) => Err(PackError::WhiteoutName(path)),
        _ => Ok(path),
    }
}
