//! Turns errors of an engine into errors of opening and storing images.

use crate::net::engine::DaemonError;
use crate::transport::source::SourceError;
use crate::transport::store::StoreError;

impl From<DaemonError> for SourceError {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Cancelled => Self::Cancelled,
            error => Self::Daemon(error),
        }
    }
}

impl From<DaemonError> for StoreError {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Cancelled => Self::Cancelled,
            error => Self::Daemon(error),
        }
    }
}
