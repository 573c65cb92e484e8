//! Turns errors of a registry into errors of opening and storing images.

use crate::net::registry::RegistryError;
use crate::transport::source::SourceError;
use crate::transport::store::StoreError;

/// Whether the registry does not have what it was asked for.
pub(in crate::transport) fn is_not_found(error: &SourceError) -> bool {
    matches!(error, SourceError::Registry(RegistryError::NotFound { .. }))
}

/// Whether the registry did not understand what it was to store.
pub(in crate::transport) fn refuses_format(error: &StoreError) -> bool {
    match error {
        StoreError::Registry(RegistryError::Refused { status, .. }) => {
            ["400", "405", "406", "415", "422"].iter().any(|code| status.starts_with(code))
        }
        _ => false,
    }
}

impl From<RegistryError> for SourceError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Cancelled => Self::Cancelled,
            error => Self::Registry(error),
        }
    }
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Cancelled => Self::Cancelled,
            error => Self::Registry(error),
        }
    }
}
