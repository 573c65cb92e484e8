//! Finds the configuration files in the places where containers/image looks for them.

#[cfg(feature = "registry")]
mod hosts;
#[cfg(feature = "registry")]
mod registries;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ConfigurationError, ConfigurationFile, Policy};

#[cfg(feature = "registry")]
pub(crate) use hosts::load_hosts;
#[cfg(feature = "registry")]
pub(crate) use registries::load_registries;

const ETC: &str = "/etc/containers";
/// Below the home directory, whatever XDG_CONFIG_HOME says.
const OWN: &str = ".config/containers";
const POLICY: &str = "policy.json";

/// Reads the policy and returns it with its path; `None` if there is none.
pub(crate) fn load_policy(which: &ConfigurationFile) -> Result<Option<(PathBuf, Policy)>, ConfigurationError> {
    let (path, text) = match which {
        ConfigurationFile::Nothing => return Ok(None),
        ConfigurationFile::At(path) => (path.clone(), read(path)?),
        ConfigurationFile::Usual => {
            let own = own().map(|own| own.join(POLICY)).filter(|path| path.exists());
            let path = own.unwrap_or_else(|| Path::new(ETC).join(POLICY));
            let Some(text) = read_if_there(&path)? else { return Ok(None) };
            (path, text)
        }
    };
    let policy = Policy::parse(&path, &text)?;
    Ok(Some((path, policy)))
}

fn own() -> Option<PathBuf> {
    variable("HOME").map(|home| home.join(OWN))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Result<String, ConfigurationError> {
    std::fs::read_to_string(path).map_err(|error| ConfigurationError::new(path, "cannot be read").because(error))
}

fn read_if_there(path: &Path) -> Result<Option<String>, ConfigurationError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigurationError::new(path, "cannot be read").because(error)),
    }
}
