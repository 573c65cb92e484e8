//! Writes one output file: it grows beside its name and gets the name when it is complete (rule S2); or it goes to
//! standard output.

use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};
use tempfile::NamedTempFile;

use crate::fs::{Aside, Durability, Place as Named, PlaceError};

/// Where the user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file of this name.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// An output that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Something is there.
    #[error("{0:?} exists already")]
    Exists(PathBuf),
    /// A directory is there.
    #[error("{0:?} is a directory, but the output is a file")]
    IsDirectory(PathBuf),
    /// A place that cannot be used as it is named.
    #[error("cannot use {path:?}")]
    Unusable {
        /// What was named.
        path: PathBuf,
        /// Why, and what to do.
        #[source]
        error: PlaceError,
    },
    /// It cannot be written.
    #[error("cannot write {path:?}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
}

/// A file in the making. Dropped before [`Output::publish`] it leaves nothing.
#[derive(Debug)]
pub struct Output {
    destination: Destination,
    replace: bool,
    place: Place,
    durability: Durability,
}

#[derive(Debug)]
enum Place {
    /// Beside its destination.
    Beside { draft: NamedTempFile, aside: Aside, named: Named },
    /// In a directory for temporary files.
    Temporary { draft: NamedTempFile, _aside: Aside },
    /// What can only be written as it comes: a pipe, a device.
    Direct(File),
}

impl Output {
    /// Checks that the destination can be used, and makes a file for its bytes, which are written in order. With
    /// `no_sync` nobody waits until it is on disk (rule S6).
    ///
    /// # Errors
    /// A destination that is there, unless `replace` is set, or whose directory cannot be written.
    pub fn create(destination: Destination, replace: bool, no_sync: bool) -> Result<Self, OutputError> {
        let place = match &destination {
            Destination::Stdout => Place::Direct(duplicate_of_stdout().map_err(|error| failed(&destination, error))?),
            Destination::File(path) => match open_special(path)? {
                Some(file) => Place::Direct(file),
                None => beside(path, replace)?,
            },
        };
        Ok(Self { destination, replace, place, durability: Durability::unless(no_sync) })
    }

    /// The same, for bytes that are not written in order.
    ///
    /// # Errors
    /// As [`Output::create`].
    pub fn create_seekable(destination: Destination, replace: bool, no_sync: bool) -> Result<Self, OutputError> {
        let place = match &destination {
            Destination::File(path) if open_special(path)?.is_none() => beside(path, replace)?,
            _ => temporary().map_err(|error| failed(&destination, error))?,
        };
        Ok(Self { destination, replace, place, durability: Durability::unless(no_sync) })
    }

    /// What to write to.
    pub fn file(&self) -> &File {
        match &self.place {
            Place::Beside { draft, .. } | Place::Temporary { draft, .. } => draft.as_file(),
            Place::Direct(file) => file,
        }
    }

    /// The path of the file in the making, for another program to write.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.place {
            // Handles of this process are not the other's.
            Place::Beside { draft, .. } | Place::Temporary { draft, .. } => Some(crate::fs::shown(draft.path())),
            Place::Direct(_) => None,
        }
    }

    /// A directory where as much as the output may be kept meanwhile.
    pub fn scratch(&self) -> PathBuf {
        match (&self.place, &self.destination) {
            (Place::Beside { .. }, Destination::File(path)) => parent(path).to_owned(),
            _ => std::env::temp_dir(),
        }
    }

    /// Puts the whole file where it belongs.
    ///
    /// # Errors
    /// It cannot be renamed, or copied to where only a stream can go.
    pub fn publish(self) -> Result<(), OutputError> {
        let Self { destination, replace, place, durability } = self;
        match (place, &destination) {
            (Place::Direct(_), _) => Ok(()),
            (Place::Beside { draft, aside, named }, Destination::File(path)) => {
                match aside.publish(draft, &named, replace, durability) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Err(OutputError::Exists(path.clone()))
                    }
                    other => other.map_err(|error| failed(&destination, error)),
                }
            }
            (Place::Temporary { draft, _aside } | Place::Beside { draft, aside: _aside, .. }, Destination::Stdout) => {
                let mut stdout = duplicate_of_stdout().map_err(|error| failed(&destination, error))?;
                send(draft.reopen(), &mut stdout).map_err(|error| failed(&destination, error))
            }
            (Place::Temporary { draft, _aside }, Destination::File(path)) => match open_special(path)? {
                Some(mut special) => send(draft.reopen(), &mut special).map_err(|error| failed(&destination, error)),
                None => Err(failed(&destination, io::ErrorKind::NotFound.into())),
            },
        }
    }
}

/// A file beside a place, where it grows out of sight.
fn beside(path: &Path, replace: bool) -> Result<Place, OutputError> {
    let io = |error: io::Error| OutputError::Io { path: path.to_owned(), error };
    let named = Named::find(path).map_err(|error| match error {
        PlaceError::Io(error) => io(error),
        error => OutputError::Unusable { path: path.to_owned(), error },
    })?;
    if !replace && statat(named.parent(), named.name(), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(OutputError::Exists(path.to_owned()));
    }
    let parent = rustix::io::fcntl_dupfd_cloexec(named.parent(), 0).map_err(|error| io(error.into()))?;
    let aside = Aside::make(parent).map_err(|error| io(error.into()))?;
    let draft = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(aside.path());
    Ok(Place::Beside { draft: draft.map_err(io)?, aside, named })
}

/// A file in the directory for temporary files. Not one that `tempfile` makes there: of those nobody knows whose they are, if their process is
/// killed.
fn temporary() -> io::Result<Place> {
    let aside = super::open_path(&std::env::temp_dir()).and_then(Aside::make)?;
    let draft = tempfile::Builder::new().tempfile_in(aside.path())?;
    Ok(Place::Temporary { draft, _aside: aside })
}

fn send(from: io::Result<File>, to: &mut File) -> io::Result<()> {
    let mut from = from?;
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, to).map(drop)
}

/// A handle of its own: standard output of the standard library gathers lines, which these bytes have none of.
fn duplicate_of_stdout() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?))
}

/// What is there and is neither a file nor missing: a pipe or a device is written to and not replaced.
fn open_special(path: &Path) -> Result<Option<File>, OutputError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(OutputError::IsDirectory(path.to_owned())),
        Ok(metadata) if !metadata.is_file() => {
            let file = File::options().write(true).open(path);
            file.map(Some).map_err(|error| OutputError::Io { path: path.to_owned(), error })
        }
        _ => Ok(None),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(destination: &Destination, error: io::Error) -> OutputError {
    let path = match destination {
        Destination::File(path) => path.clone(),
        Destination::Stdout => PathBuf::from("standard output"),
    };
    OutputError::Io { path, error }
}
