//! Writes images to the daemon's store: it is sent a docker archive to load.

use std::fs::File;
use std::io::Read;

use tempfile::{NamedTempFile, TempDir};

use crate::core::reference::DaemonImage;
use crate::fs::{Held, hold};
use crate::net::engine::{Daemon, DaemonError};
use crate::transport::docker::archive::DockerArchive;
use crate::transport::store::{Finished, Form, OpenOptions, Presence, Store, StoreError, Stored};

/// An engine that images are put into.
#[derive(Debug)]
struct AtDaemon {
    daemon: Daemon,
    archive: Box<DockerArchive>,
    /// The archive until it is sent: its size is only known when it is complete.
    directory: TempDir,
    /// Nobody else removes that directory. What waits for the engine ends on a signal.
    _held: Held,
}

const ARCHIVE: &str = "image.tar";

pub(in crate::transport) fn open(image: &DaemonImage, options: &OpenOptions) -> Result<Box<dyn Store>, StoreError> {
    let DaemonImage::Name(name) = image else {
        return Err(StoreError::NameNeeded(format!("{image}: an image is given a name: write docker-daemon:NAME:TAG")));
    };
    let daemon = Daemon::find(options.daemon.as_deref(), &options.cancel)?;
    let held = hold();
    let directory = tempfile::tempdir().map_err(|error| StoreError::io(&std::env::temp_dir(), error))?;
    // The file has no name and disappears when it is closed.
    let options = OpenOptions { no_sync: true, ..options.clone() };
    let archive = DockerArchive::open(&directory.path().join(ARCHIVE), Some(&name.to_string()), &options)?;
    Ok(Box::new(AtDaemon { daemon, archive: Box::new(archive), directory, _held: held }))
}

impl Store for AtDaemon {
    fn form(&self) -> Form {
        self.archive.form()
    }

    fn is_sequential(&self) -> bool {
        self.archive.is_sequential()
    }

    fn names(&self, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
        self.archive.names(of_source, several)
    }

    fn find(&self, blob: &Stored) -> Result<Presence, StoreError> {
        self.archive.find(blob)
    }

    fn put(&self, blob: &Stored, content: &mut dyn Read) -> Result<u64, StoreError> {
        self.archive.put(blob, content)
    }

    fn draft(&self) -> Result<NamedTempFile, StoreError> {
        self.archive.draft()
    }

    fn publish(self: Box<Self>, images: &[Finished]) -> Result<(), StoreError> {
        let path = self.directory.path().join(ARCHIVE);
        self.archive.publish(images)?;
        let mut archive = File::open(&path).map_err(|error| StoreError::io(&path, error))?;
        match self.daemon.load(&mut archive) {
            Err(DaemonError::Input(error)) => Err(StoreError::io(&path, error)),
            loaded => Ok(loaded?),
        }
    }
}
