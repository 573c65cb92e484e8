//! Errors of running a container.

use std::io;

use crate::bundle::BundleError;
use crate::image::ConfigError;
use crate::mount::MountError;

/// Why a container could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The kernel refuses namespaces.
    #[error("the kernel refuses the namespaces of a container")]
    Namespaces(#[source] io::Error),
    /// The first process in them cannot be started, or not be told what to do.
    #[error("cannot start the first process of the container")]
    Start(#[source] io::Error),
    /// The image's configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The image, or the caller, asks for something that cannot be.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The image cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Something else cannot be mounted, or set.
    #[error("cannot set up {what}")]
    Part {
        /// What, and where.
        what: String,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
    /// There is no directory over which the container's files could be mounted.
    #[error("none of {0} is a directory that could be mounted over")]
    NoPlace(String),
    /// Privileges cannot be given up.
    #[error("cannot become {what}")]
    Privileges {
        /// As whom it is to run, or what is to be given up.
        what: String,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
    /// The program cannot be run.
    #[error("cannot run {program:?}")]
    Program {
        /// The program.
        program: String,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
}

impl ContainerError {
    /// How whoever runs it should end, as Docker and Podman do.
    pub fn status(&self) -> u8 {
        match self {
            Self::Program { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Program { .. } => 126,
            _ => 125,
        }
    }
}
