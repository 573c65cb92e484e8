//! Reads one layer: takes the uncompressed archive, returns its record, and passes file contents on to a sink.

use std::io::BufRead;

use super::change::{Meaning, WhiteoutError, meaning};
use super::{AttributeError, Unkept};
use crate::core::cancel::Cancel;
use crate::core::filter::Filter;
use crate::core::limits::{Exceeded, Limits, NameCount};
use crate::core::record::{
    Attributes, Change, ChangeKind, ContentId, DeviceKind, LayerPath, NameId, Names, PathError, Record,
};
use crate::core::tar::{self, ArchiveError, Entry, EntryKind, Event, Fragment};
use crate::core::text::Printable;

/// Where the contents of a layer's files go while it is read.
pub trait Sink {
    /// What can go wrong there.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A regular file of `size` bytes begins, which will carry `attributes`. `names` holds the layer's names so far,
    /// this one among them.
    ///
    /// # Errors
    /// The file cannot be made.
    fn begin(
        &mut self,
        names: &Names,
        name: NameId,
        attributes: &Attributes,
        size: u64,
        place: Place,
    ) -> Result<ContentId, Failure<Self::Error>>;

    /// Where the content of the file that was just begun lies: its `fragments` are stored one behind the other from byte `position` of the
    /// uncompressed archive on.
    fn located(&mut self, position: u64, fragments: &[Fragment]) {
        let _ = (position, fragments);
    }

    /// What follows the last file's content in the archive, as far as the end of its last block, is not all zeros.
    fn padding_shows(&mut self) {}

    /// Some of the file's content. What no call mentions is a hole.
    ///
    /// # Errors
    /// The content cannot be kept.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Self::Error>>;

    /// The file is complete, and carries these attributes.
    ///
    /// # Errors
    /// The file cannot be finished.
    fn end(&mut self, attributes: &Attributes) -> Result<(), Failure<Self::Error>>;

    /// The layer is complete.
    ///
    /// # Errors
    /// A file that could not be finished before.
    fn finish(&mut self) -> Result<(), Failure<Self::Error>> {
        Ok(())
    }

    /// Something that the archive states and that cannot be expressed (rule A4).
    fn unkept(&mut self, name: NameId, unkept: Unkept);

    /// An entry that cannot be taken. `name` is what the archive calls it. Who only wants to know what is wrong passes
    /// over it.
    ///
    /// # Errors
    /// The problem, if the reading is to end there: what everyone does who makes something of the layer.
    fn refused(&mut self, name: &[u8], problem: EntryProblem) -> Result<(), EntryProblem> {
        let _ = name;
        Err(problem)
    }
}

/// What a sink could not do, and with which file: not always the one that it was asked for last.
#[derive(Debug)]
pub struct Failure<E> {
    /// The file's name.
    pub name: NameId,
    /// What went wrong.
    pub error: E,
}

/// Where a file will most likely stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At its own name.
    Named,
    /// At no name: it only serves hard links.
    Nameless,
}

/// Takes the contents of files and keeps nothing: for those who only want the record.
#[derive(Debug, Default)]
pub struct Discard {
    files: u32,
}

impl Sink for Discard {
    type Error = std::convert::Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        _: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Self::Error>> {
        self.files += 1;
        Ok(ContentId(self.files - 1))
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), Failure<Self::Error>> {
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Self::Error>> {
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive is damaged.
    #[error("at byte {position} of the uncompressed archive")]
    Archive {
        /// Where in the uncompressed layer.
        position: u64,
        /// What is wrong.
        #[source]
        error: ArchiveError,
    },
    /// One entry cannot be taken.
    #[error("entry {:?}", Printable(.name))]
    Entry {
        /// The name as the archive has it.
        name: Vec<u8>,
        /// What is wrong.
        #[source]
        problem: EntryProblem,
    },
    /// The layer asks for more than it may (rule S4).
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was too much.
        what: String,
        /// The most there may be.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// The bytes cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// A file cannot be written.
    #[error("entry {path:?}")]
    Write {
        /// The file's path.
        path: LayerPath,
        /// What the sink says.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// [`Cancel`] was used.
    #[error("interrupted")]
    Cancelled,
}

/// Why one entry cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// Its name is not a safe name (rule N1).
    #[error(transparent)]
    Name(#[from] PathError),
    /// Its name is a whiteout that cannot be (rule M3).
    #[error(transparent)]
    Whiteout(#[from] WhiteoutError),
    /// Its attributes cannot be (rule A1).
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// A link with no target.
    #[error("a link without a target")]
    EmptyTarget,
    /// A symlink target that the kernel does not take.
    #[error("the target of the symbolic link has {0} bytes; the kernel takes at most 4095")]
    LongTarget(usize),
    /// A hard link's target that is not a safe name.
    #[error("the target {:?} of the hard link is not a safe name", Printable(.target))]
    Target {
        /// The target as the archive has it.
        target: Vec<u8>,
        /// What is wrong.
        #[source]
        problem: PathError,
    },
    /// A hard link to a whiteout.
    #[error("hard link to {:?}, which is a whiteout", Printable(.0))]
    LinkToWhiteout(Vec<u8>),
    /// A whiteout that a filter would leave out, and not what it hides.
    #[error("excluding this whiteout would bring back the file that it deletes; exclude that file instead")]
    Uncovers,
    /// A device number that the kernel does not have.
    #[error("device number {0}:{1} is out of range; the kernel takes at most 4095:1048575")]
    Device(i64, i64),
}

/// How a layer is read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The most that it may ask for.
    pub limits: Limits,
    /// What is changed of attributes, and whether whiteouts may be left out.
    pub filter: Filter,
    /// Stops early.
    pub cancel: Cancel,
    /// Where names are counted: together with those of all layers whose options are clones of these.
    pub name_count: NameCount,
}

/// Reads a layer to the end of its archive, and on to the last byte of `input`.
///
/// `progress` is told the number of changes so far, now and then.
///
/// # Errors
/// The first thing that is wrong with the layer, or that goes wrong in `input` or `sink`.
pub fn read_layer<S: Sink>(
    input: &mut impl BufRead,
    sink: &mut S,
    options: &ReadOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Record, LayerError> {
    read(input, sink, options, progress, None)
}

/// How a reader goes on behind so many bytes.
pub type SkipIn<'a, R> = &'a mut dyn FnMut(&mut R, u64);

/// The same for an input that can seek, of which only the headers are read: `skip` passes over the contents of files, and the sink is told
/// where they lie but sees nothing of them.
///
/// # Errors
/// As [`read_layer`].
pub fn read_headers<S: Sink, R: BufRead>(
    input: &mut R,
    sink: &mut S,
    options: &ReadOptions,
    progress: &mut dyn FnMut(usize),
    skip: SkipIn<'_, R>,
) -> Result<Record, LayerError> {
    read(input, sink, options, progress, Some(skip))
}

fn read<S: Sink, R: BufRead>(
    input: &mut R,
    sink: &mut S,
    options: &ReadOptions,
    progress: &mut dyn FnMut(usize),
    mut skip: Option<SkipIn<'_, R>>,
) -> Result<Record, LayerError> {
    let limits = options.limits;
    let mut reader =
        tar::Reader::new(tar::Limits { extended_header: limits.extended_header, ..tar::Limits::default() });
    let mut layer = LayerReader {
        record: Record::default(),
        sink,
        limits,
        filter: &options.filter,
        open: false,
        last_parent: (LayerPath::root(), NameId::ROOT),
        name_count: options.name_count.clone(),
        counted: Counted::default(),
    };
    let mut taken = 0u64;
    loop {
        if options.cancel.is_cancelled() {
            return Err(LayerError::Cancelled);
        }
        let mut rest = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let filled = rest.len();
        let at = |rest: &[u8]| taken + (filled - rest.len()) as u64;
        if filled == 0 {
            reader.finish().map_err(|error| LayerError::Archive { position: taken, error })?;
            if reader.take_padding_shows() {
                layer.sink.padding_shows();
            }
            layer.sink.finish().map_err(|failure| write_error(&layer.record, failure))?;
            return Ok(layer.record);
        }
        let mut skipped = 0;
        loop {
            let event = reader.next(&mut rest).map_err(|error| LayerError::Archive { position: at(rest), error })?;
            if reader.take_padding_shows() {
                layer.sink.padding_shows();
            }
            match event {
                Event::NeedInput => break,
                Event::End => {}
                Event::GlobalHeader => layer.record.global_headers += 1,
                Event::Entry(entry) => {
                    match layer.entry(&entry) {
                        Err(LayerError::Entry { name, problem }) => {
                            let refused = layer.sink.refused(&name, problem);
                            refused.map_err(|problem| LayerError::Entry { name, problem })?;
                        }
                        taken => taken?,
                    }
                    layer.count_memory()?;
                    if layer.open {
                        layer.sink.located(at(rest), reader.fragments());
                    }
                    // Padding is looked at, and comes with the next header.
                    if skip.is_some() {
                        let content = reader.content_left();
                        reader.skip(content);
                        let here = content.min(rest.len() as u64);
                        rest = &rest[here as usize..];
                        skipped = content - here;
                        if skipped > 0 {
                            break;
                        }
                    }
                }
                Event::Data { offset, bytes } => layer.data(offset, bytes)?,
                Event::EndOfEntry => layer.end()?,
            }
        }
        input.consume(filled);
        taken += filled as u64;
        if let Some(skip) = skip.as_mut().filter(|_| skipped > 0) {
            skip(input, skipped);
            taken += skipped;
        }
        progress(layer.record.changes.len());
    }
}

struct LayerReader<'a, S> {
    record: Record,
    sink: &'a mut S,
    limits: Limits,
    filter: &'a Filter,
    /// Whether the content of the current entry goes to the sink.
    open: bool,
    /// The directory of the last name: most entries are in the same one as the one before.
    last_parent: (LayerPath, NameId),
    name_count: NameCount,
    counted: Counted,
}

/// What was counted of a layer's memory.
#[derive(Default)]
struct Counted {
    changes: usize,
    /// What these hold besides themselves.
    held: u64,
    memory: u64,
}

impl<S: Sink> LayerReader<'_, S> {
    fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let wrong = |problem| LayerError::Entry { name: entry.name.clone(), problem };
        self.check_limits(entry)?;
        let path = LayerPath::of_entry(&entry.name).map_err(|error| wrong(error.into()))?;
        self.check_depth(&path)?;
        let meaning = meaning(&path).map_err(|error| wrong(error.into()))?;
        self.record.is_filtered |= self.filter.excludes(&path);
        match meaning {
            Meaning::Bookkeeping => Ok(()),
            Meaning::Whiteout(_) | Meaning::Opaque(_) if self.is_left_out(&path, &meaning).map_err(wrong)? => Ok(()),
            Meaning::Whiteout(hidden) => self.push(&hidden, ChangeKind::Whiteout),
            Meaning::Opaque(directory) => self.push(&directory, ChangeKind::Opaque),
            Meaning::LinkSource if entry.kind == EntryKind::File => self.file(entry, &path, Place::Nameless),
            Meaning::LinkSource => Ok(()),
            Meaning::Entry => match entry.kind {
                EntryKind::File => self.file(entry, &path, Place::Named),
                EntryKind::HardLink => {
                    let target = self.link_target(entry).map_err(wrong)?;
                    self.check_depth(&target)?;
                    let target = self.intern(&target)?;
                    self.push(&path, ChangeKind::HardLink { target })
                }
                _ => {
                    let name = self.intern(&path)?;
                    let attributes = self.attributes(entry, name)?;
                    let kind = special(entry, attributes).map_err(wrong)?;
                    self.record.changes.push(Change { name, kind });
                    Ok(())
                }
            },
        }
    }

    /// Whether the filter leaves a whiteout out, which it must be told twice: what the whiteout deletes comes back.
    fn is_left_out(&mut self, whiteout: &LayerPath, meaning: &Meaning) -> Result<bool, EntryProblem> {
        let hidden = if let Meaning::Whiteout(hidden) = meaning { Some(hidden) } else { None };
        match self.filter.uncovers(whiteout, hidden) {
            true if !self.filter.exclude_whiteouts => Err(EntryProblem::Uncovers),
            uncovers => {
                self.record.is_filtered |= uncovers;
                Ok(uncovers)
            }
        }
    }

    fn file(&mut self, entry: &Entry, path: &LayerPath, place: Place) -> Result<(), LayerError> {
        let name = self.intern(path)?;
        let attributes = self.attributes(entry, name)?;
        let size = entry.size;
        // A regular file named `/` has no content; the stack rejects it.
        let content = if name == NameId::ROOT {
            ContentId(u32::MAX)
        } else {
            self.open = true;
            let begun = self.sink.begin(&self.record.names, name, &attributes, size, place);
            begun.map_err(|failure| write_error(&self.record, failure))?
        };
        let kind = match place {
            Place::Named => ChangeKind::File { attributes, size, content },
            Place::Nameless => ChangeKind::LinkSource { attributes, size, content },
        };
        self.record.changes.push(Change { name, kind });
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LayerError> {
        if self.open {
            self.sink.data(offset, bytes).map_err(|failure| write_error(&self.record, failure))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), LayerError> {
        let open = std::mem::take(&mut self.open);
        if let Some(file) = self.record.changes.last().filter(|_| open)
            && let Some(attributes) = file.kind.attributes()
        {
            self.sink.end(attributes).map_err(|failure| write_error(&self.record, failure))?;
        }
        Ok(())
    }

    fn attributes(&mut self, entry: &Entry, name: NameId) -> Result<Attributes, LayerError> {
        let (mut attributes, unkept) = Attributes::of_entry(entry)
            .map_err(|error| LayerError::Entry { name: entry.name.clone(), problem: error.into() })?;
        for unkept in unkept {
            self.sink.unkept(name, unkept);
        }
        self.record.is_filtered |= self.filter.change(&mut attributes);
        Ok(attributes)
    }

    fn link_target(&self, entry: &Entry) -> Result<LayerPath, EntryProblem> {
        if entry.link_name.is_empty() {
            return Err(EntryProblem::EmptyTarget);
        }
        let target = LayerPath::of_link_target(&entry.link_name)
            .map_err(|problem| EntryProblem::Target { target: entry.link_name.clone(), problem })?;
        match meaning(&target) {
            Ok(Meaning::Entry | Meaning::LinkSource) => Ok(target),
            _ => Err(EntryProblem::LinkToWhiteout(entry.link_name.clone())),
        }
    }

    fn push(&mut self, path: &LayerPath, kind: ChangeKind) -> Result<(), LayerError> {
        let name = self.intern(path)?;
        self.record.changes.push(Change { name, kind });
        Ok(())
    }

    fn intern(&mut self, path: &LayerPath) -> Result<NameId, LayerError> {
        let too_many = || LayerError::Limit {
            what: "the length of all names together".to_owned(),
            limit: u64::from(u32::MAX),
            name: "entries",
        };
        let Some((parent, name)) = path.split_last() else {
            return Ok(NameId::ROOT);
        };
        let known = self.record.names.len();
        if self.last_parent.0 != parent {
            let id = self.record.names.intern_path(&parent).ok_or_else(too_many)?;
            self.last_parent = (parent, id);
        }
        let id = self.record.names.intern(self.last_parent.1, name).ok_or_else(too_many)?;
        self.count_names(path, self.record.names.len() - known)?;
        Ok(id)
    }

    /// Counts the last `new` prefixes of a path, which the layer had not named before.
    fn count_names(&self, path: &LayerPath, new: usize) -> Result<(), LayerError> {
        if new == 0 {
            return Ok(());
        }
        let path = path.as_bytes();
        let ends = path.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'/').map(|(slash, _)| slash);
        let lengths = std::iter::once(path.len()).chain(ends).take(new).map(|length| length as u64 + 1);
        let (names, path_bytes) = self.name_count.add(new as u64, lengths.sum());
        self.limits.check_names(names, path_bytes).map_err(exceeded)
    }

    /// Counts what was read since it was last counted.
    fn count_memory(&mut self) -> Result<(), LayerError> {
        if !self.limits.limit_memory() {
            return Ok(());
        }
        let Counted { changes, held, memory } = &mut self.counted;
        *held += self.record.changes[*changes..].iter().map(|change| change.kind.held()).sum::<u64>();
        *changes = self.record.changes.len();
        let needed = self.record.memory_of_entries() + *held;
        let of_all = self.name_count.add_memory(needed - std::mem::replace(memory, needed));
        self.limits.check_memory(of_all).map_err(exceeded)
    }

    fn check_limits(&self, entry: &Entry) -> Result<(), LayerError> {
        let Limits { entries, file_size, name_length, .. } = self.limits;
        let name = &entry.name[..entry.name.len().min(60)];
        if self.record.changes.len() as u64 >= entries {
            return Err(LayerError::Limit {
                what: "the number of entries".to_owned(),
                limit: entries,
                name: "entries",
            });
        }
        if entry.size > file_size {
            let what = format!("entry {:?}: a size of {} bytes", Printable(name), entry.size);
            return Err(LayerError::Limit { what, limit: file_size, name: "file-size" });
        }
        let longest = entry.name.len().max(entry.link_name.len());
        if longest > name_length {
            let what = format!("entry {:?}…: a name of {longest} bytes", Printable(name));
            return Err(LayerError::Limit { what, limit: name_length as u64, name: "name-length" });
        }
        Ok(())
    }

    fn check_depth(&self, path: &LayerPath) -> Result<(), LayerError> {
        let depth = path.components().count();
        if depth <= self.limits.depth {
            return Ok(());
        }
        let name = &path.as_bytes()[..path.as_bytes().len().min(60)];
        let what = format!("entry {:?}…: a path of {depth} components", Printable(name));
        Err(LayerError::Limit { what, limit: self.limits.depth as u64, name: "depth" })
    }
}

fn exceeded((what, limit, name): Exceeded) -> LayerError {
    LayerError::Limit { what: what.to_owned(), limit, name }
}

fn write_error(record: &Record, failure: Failure<impl std::error::Error + Send + Sync + 'static>) -> LayerError {
    LayerError::Write { path: record.names.path(failure.name), error: Box::new(failure.error) }
}

/// Directories, symlinks, devices and FIFOs.
fn special(entry: &Entry, attributes: Attributes) -> Result<ChangeKind, EntryProblem> {
    let device = |kind| {
        let (major, minor) = entry.device;
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major @ ..=4095), Ok(minor @ ..=1_048_575)) => {
                Ok(ChangeKind::Device { attributes: attributes.clone(), kind, major, minor })
            }
            _ => Err(EntryProblem::Device(major, minor)),
        }
    };
    match entry.kind {
        EntryKind::CharacterDevice => device(DeviceKind::Character),
        EntryKind::BlockDevice => device(DeviceKind::Block),
        EntryKind::Fifo => Ok(ChangeKind::Fifo(attributes)),
        EntryKind::Symlink => match entry.link_name.len() {
            0 => Err(EntryProblem::EmptyTarget),
            1..4096 => Ok(ChangeKind::Symlink { attributes, target: entry.link_name.as_slice().into() }),
            long => Err(EntryProblem::LongTarget(long)),
        },
        EntryKind::Directory | EntryKind::File | EntryKind::HardLink => Ok(ChangeKind::Directory(attributes)),
    }
}
