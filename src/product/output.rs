//! Where a file goes that is made: beside its name first, and to its name when it is whole (rule S2); or to standard output.

use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

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
    #[error("{0:?} is there already; --replace puts the new file in its place")]
    Exists(PathBuf),
    /// A directory is there.
    #[error("{0:?} is a directory, and the result is a file")]
    IsDirectory(PathBuf),
    /// It cannot be written.
    #[error("cannot write {path:?}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
}

/// A file in the making. Dropped before [`Output::publish`] it leaves nothing.
#[derive(Debug)]
pub struct Output {
    destination: Destination,
    replace: bool,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Beside its destination, or in a directory for temporary files.
    Beside(NamedTempFile),
    /// What can only be written as it comes: a pipe, a device.
    Direct(File),
}

impl Output {
    /// Checks that the destination can be used, and makes a file for its bytes, which are written in order.
    ///
    /// # Errors
    /// A destination that is there, unless `replace` is set, or whose directory cannot be written.
    pub fn create(destination: Destination, replace: bool) -> Result<Self, OutputError> {
        let place = match &destination {
            Destination::Stdout => Place::Direct(duplicate_of_stdout().map_err(|error| failed(&destination, error))?),
            Destination::File(path) => match open_special(path)? {
                Some(file) => Place::Direct(file),
                None => Self::beside(&destination, replace)?,
            },
        };
        Ok(Self { destination, replace, place })
    }

    /// The same, for bytes that are not written in order.
    ///
    /// # Errors
    /// As [`Output::create`].
    pub fn create_seekable(destination: Destination, replace: bool) -> Result<Self, OutputError> {
        let place = match &destination {
            Destination::File(path) if open_special(path)?.is_none() => Self::beside(&destination, replace)?,
            _ => Place::Beside(tempfile::NamedTempFile::new().map_err(|error| failed(&destination, error))?),
        };
        Ok(Self { destination, replace, place })
    }

    fn beside(destination: &Destination, replace: bool) -> Result<Place, OutputError> {
        let Destination::File(path) = destination else {
            return Err(failed(destination, io::ErrorKind::InvalidInput.into()));
        };
        if !replace && path.symlink_metadata().is_ok() {
            return Err(OutputError::Exists(path.clone()));
        }
        let file = tempfile::Builder::new()
            .prefix(".layflat-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent(path))
            .map_err(|error| failed(destination, error))?;
        Ok(Place::Beside(file))
    }

    /// What to write to.
    pub fn file(&self) -> &File {
        match &self.place {
            Place::Beside(file) => file.as_file(),
            Place::Direct(file) => file,
        }
    }

    /// The path of the file in the making, for another program to write.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Beside(file) => Some(file.path()),
            Place::Direct(_) => None,
        }
    }

    /// A directory where as much as the output may be kept meanwhile.
    pub fn scratch(&self) -> PathBuf {
        match (&self.place, &self.destination) {
            (Place::Beside(_), Destination::File(path)) => parent(path).to_owned(),
            _ => std::env::temp_dir(),
        }
    }

    /// Puts the whole file where it belongs.
    ///
    /// # Errors
    /// It cannot be renamed, or copied to where only a stream can go.
    pub fn publish(self) -> Result<(), OutputError> {
        let Self { destination, replace, place } = self;
        let Place::Beside(file) = place else {
            return Ok(());
        };
        let Destination::File(path) = &destination else {
            let mut stdout = duplicate_of_stdout().map_err(|error| failed(&destination, error))?;
            return send(file.reopen(), &mut stdout).map_err(|error| failed(&destination, error));
        };
        if let Some(mut special) = open_special(path)? {
            return send(file.reopen(), &mut special).map_err(|error| failed(&destination, error));
        }
        let persisted = if replace { file.persist(path) } else { file.persist_noclobber(path) };
        match persisted {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(OutputError::Exists(path.clone())),
            Err(error) => Err(failed(&destination, error.error)),
        }
    }
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
