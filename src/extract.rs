//! Copies files and directories out of an image, without unpacking the rest of it.
//!
//! What is wanted becomes an archive of its own, of which the layers that have its contents are read and no other; and that is
//! unpacked as any image is ([`flatten`]), so that owners, attributes, links and safety are those of the one way to unpack.

use std::ffi::OsString;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustix::fs::{AtFlags, FileType, RenameFlags, linkat, renameat, renameat_with, statat};
use rustix::io::Errno;

use crate::blob::Blob;
use crate::core::layer::read_layer;
use crate::core::record::{ChangeKind, ContentId, LayerPath};
use crate::core::stack::{Difference, Last, Node, Stack, What};
use crate::export::{Change, Whiteouts, write_changed};
use crate::fs::{Aside, Durability, OutputError, Place, PlaceError, Work, publishing};
use crate::image::{Image, Layer};
use crate::inspect::InsideError;
use crate::inspect::index::Indexes;
use crate::unpack::read::read_layers;
use crate::unpack::stage::{Contents, ContentsFiles};
use crate::unpack::{Error, Options, Progress, Report, flatten, flatten_into, io};

/// What layers show, to copy from.
#[derive(Debug)]
pub struct Extractor<'a> {
    image: &'a Image,
    stack: Stack<'a>,
    whole: Difference,
}

/// Something in an image that can be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is, with no symlink on the way.
    pub path: LayerPath,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Found {
    /// Its own name; none of the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.path.components().next_back()
    }
}

impl<'a> Extractor<'a> {
    /// Looks at a whole image, or at what its layers show up to one of them.
    ///
    /// # Errors
    /// No such layer, or layers that do not fit on one another.
    pub fn new(
        image: &'a Image,
        indexes: &'a Indexes,
        layer: Option<usize>,
        options: &Options,
    ) -> Result<Self, InsideError> {
        let count = indexes.records.len();
        let records = match layer {
            None => &indexes.records[..],
            Some(layer) if layer < count => &indexes.records[..=layer],
            Some(layer) => return Err(InsideError::NoSuchLayer { layer, count }),
        };
        let stack = Stack::replay_shown(records, crate::unpack::reading(options)).map_err(Error::from)?;
        let whole = stack.whole();
        Ok(Self { image, stack, whole })
    }

    /// What is at a path. Symlinks on the way are followed inside the image, and the last one if a slash follows it.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn find(&self, path: &[u8]) -> Result<Found, InsideError> {
        let last = if path.ends_with(b"/") { Last::Follow } else { Last::Keep };
        let found = self.stack.resolve(path, last).map_err(|error| InsideError::lookup(path, error))?;
        Ok(Found { path: found.path, is_directory: matches!(found.node, Node::Directory { .. }) })
    }

    /// Copies something to `destination`, where nothing may be unless [`Options::replace`] is set. It appears whole or not at all. A symlink
    /// there is followed or replaced itself, as is said with it; a directory never takes the place of one.
    ///
    /// # Errors
    /// A layer that cannot be read, a destination that cannot be used or written.
    pub fn extract(
        &self,
        found: &Found,
        (destination, last): (&Path, Last),
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Report, Error> {
        let target = Target::find(destination, last)?;
        if target.is_link && found.is_directory {
            let error = std::io::Error::other("it is a symbolic link; remove it first");
            return Err(OutputError::Io { path: destination.to_owned(), error }.into());
        }
        let there = statat(&target.parent, &target.name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok() && !options.replace {
            return Err(OutputError::Exists(destination.to_owned()).into());
        }
        // Beside the destination, since as much as that may be needed.
        let parent = rustix::io::fcntl_dupfd_cloexec(&target.parent, 0).map_err(io("cannot use the destination"))?;
        let aside = Aside::make(parent).map_err(io("cannot make a temporary directory beside the destination"))?;
        let image = self.archived(found, &aside.path(), options, progress)?;
        if found.is_directory {
            drop(aside);
            // Where a link leads that came meanwhile is nobody's choice, either.
            let work = match last {
                Last::Follow => Work::beside(destination, options.replace, options.durability()),
                Last::Keep => Work::beside_itself(destination, options.replace, options.durability()),
            };
            return flatten_into(&image, work?, options, progress);
        }
        self.leaf(&image, found, (&target, destination), &aside, options, progress)
    }

    /// Puts something that is not a directory in its place.
    fn leaf(
        &self,
        image: &Image,
        found: &Found,
        (target, destination): (&Target, &Path),
        aside: &Aside,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Report, Error> {
        let tree: PathBuf = crate::fs::shown(&aside.path()).join("tree");
        let mut report = flatten(image, &tree, options, progress)?;
        // The directory that it was unpacked in is nothing of the image's.
        for loss in &mut report.not_kept {
            let named = loss.examples.len();
            loss.examples.retain(|path| path != "/");
            loss.count = loss.count.saturating_sub((named - loss.examples.len()) as u64);
        }
        report.not_kept.retain(|loss| loss.count > 0);
        let tree = crate::fs::open_directory(aside.directory(), b"tree").map_err(io("cannot use what was unpacked"))?;
        let name = found.name().unwrap_or_default();
        let failed = |error: Errno| match error {
            Errno::EXIST => OutputError::Exists(destination.to_owned()),
            Errno::ISDIR => OutputError::IsDirectory(destination.to_owned()),
            error => OutputError::Io { path: destination.to_owned(), error: error.into() },
        };
        if matches!(statat(&tree, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
            // A device, for a user who cannot make any.
            report.refuse_losses()?;
        }
        let publishing = publishing().map_err(failed)?;
        let Target { parent, name: own, .. } = target;
        let published = if options.replace {
            renameat(&tree, name, parent, own)
        } else {
            match renameat_with(&tree, name, parent, own, RenameFlags::NOREPLACE) {
                // A file system that knows no flags. A link is never made over what is there; the other name goes with all that is aside.
                Err(Errno::INVAL | Errno::NOSYS) => linkat(&tree, name, parent, own, AtFlags::empty()),
                other => other,
            }
        };
        published.map_err(failed)?;
        drop(publishing);
        Durability::unless(options.no_sync).sync(parent).map_err(failed)?;
        report.destination = destination.to_owned();
        Ok(report)
    }

    /// An image with nothing but this: a directory as its root, anything else in its root.
    fn archived(
        &self,
        found: &Found,
        scratch: &Path,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let depth = found.path.components().count();
        let kept = if found.is_directory { depth } else { depth.saturating_sub(1) };
        let path = |path: LayerPath| {
            let is_inside = path.components().take(depth).eq(found.path.components());
            is_inside.then(|| LayerPath::of_components(path.components().skip(kept)))
        };
        let contents = self.contents(&path, scratch, options, progress)?;
        let file = tempfile::tempfile_in(scratch).map_err(io("cannot make a temporary file"))?;
        let change = Change { path: &path, attributes: &|_, attributes| attributes.clone() };
        // What is wanted of it is decided when it is unpacked.
        let all = Options { selinux: true, ..options.clone() };
        let buffered = BufWriter::with_capacity(256 << 10, &file);
        let how = (Whiteouts::None, Some(&change));
        let writer = write_changed(buffered, &self.stack, &self.whole, &contents, how, &all)?;
        let (buffered, _) = writer.finish().map_err(io("cannot write a temporary file"))?;
        buffered
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .map_err(io("cannot write a temporary file"))?;
        let length = file.metadata().map_err(io("cannot read a temporary file"))?.len();
        Ok(image_of(file, length))
    }

    /// The contents of the files that have a path, by layer.
    fn contents(
        &self,
        path: &dyn Fn(LayerPath) -> Option<LayerPath>,
        scratch: &Path,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Contents>>, Error> {
        let mut wanted: HashMap<usize, HashSet<ContentId>> = HashMap::new();
        for (index, entry) in self.whole.entries().iter().enumerate() {
            let What::Leaf(inode) = entry.what else { continue };
            let (layer, change) = self.stack.origin(inode);
            if let ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } = change.kind
                && path(self.stack.path(&self.whole, index)).is_some()
            {
                wanted.entry(layer).or_default().insert(content);
            }
        }
        let mut which: Vec<usize> = wanted.keys().copied().collect();
        which.sort_unstable();
        let files = ContentsFiles::new(scratch);
        let read = read_layers(self.image, &which, options, progress, &|layer, stream, read, tell| {
            let mut writer = files.writer_of(Some(wanted[&layer].clone()))?;
            let record = read_layer(stream, &mut writer, read, tell)?;
            Ok((record, files.finished(writer).0))
        })?;
        let mut contents: Vec<Option<Contents>> = self.image.layers.iter().map(|_| None).collect();
        for (layer, read) in which.into_iter().zip(read) {
            contents[layer] = Some(read.kept);
        }
        Ok(contents)
    }
}

/// Where a copy is to be: a name in a directory whose handle is held.
struct Target {
    parent: OwnedFd,
    name: OsString,
    /// Whether a symlink is there that is not followed.
    is_link: bool,
}

impl Target {
    fn find(destination: &Path, last: Last) -> Result<Self, Error> {
        let place = match last {
            Last::Follow => Place::find(destination),
            Last::Keep => Place::itself(destination),
        };
        let place = place.map_err(|error| unusable(destination, error))?;
        let name = place.name().to_owned();
        let there = statat(place.parent(), &name, AtFlags::SYMLINK_NOFOLLOW);
        let is_link = there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Symlink);
        Ok(Self { parent: place.into_parent(), name, is_link })
    }
}

fn image_of(file: File, length: u64) -> Image {
    let layer = Layer::bare(Blob::from_file(Arc::new(file), 0, length));
    Image { name: None, manifest: None, config: None, layers: vec![layer], notices: Vec::new() }
}

fn unusable(destination: &Path, error: PlaceError) -> Error {
    let path = destination.to_owned();
    Error::Output(match error {
        PlaceError::Io(error) => OutputError::Io { path, error },
        error => OutputError::Unusable { path, error },
    })
}
