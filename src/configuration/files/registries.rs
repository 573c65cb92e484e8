//! Finds `registries.conf` and the files of `registries.conf.d`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ETC, own, read, read_if_there, variable};
use crate::configuration::{ConfigurationError, ConfigurationFile, Registries};

const REGISTRIES: &str = "registries.conf";
const DROP_INS: &str = "registries.conf.d";
/// Names the one file of registries. Then no folder of further ones is read.
const REGISTRIES_VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

/// Reads all configuration of registries.
pub(crate) fn load_registries(which: &ConfigurationFile) -> Result<Registries, ConfigurationError> {
    let alone = |path: &Path| {
        let mut registries = Registries::default();
        registries.add(path, &read(path)?, true)?;
        Ok(registries)
    };
    match which {
        ConfigurationFile::Nothing => Ok(Registries::default()),
        ConfigurationFile::At(path) => alone(path),
        ConfigurationFile::Usual => match variable(REGISTRIES_VARIABLE) {
            Some(path) => alone(&path),
            None => usual_registries(Path::new(ETC), own().as_deref()),
        },
    }
}

/// The user's own file counts instead of the system's; the files of the folders add to it.
fn usual_registries(etc: &Path, own: Option<&Path>) -> Result<Registries, ConfigurationError> {
    let mut registries = Registries::default();
    let own_file = own.map(|own| own.join(REGISTRIES)).filter(|path| path.exists());
    let mut folders = Vec::new();
    if own_file.is_none() {
        folders.push(etc.join(DROP_INS));
    }
    folders.extend(own.map(|own| own.join(DROP_INS)));
    let main = own_file.unwrap_or_else(|| etc.join(REGISTRIES));
    if let Some(text) = read_if_there(&main)? {
        registries.add(&main, &text, true)?;
    }
    for folder in folders {
        for path in drop_ins(&folder)? {
            registries.add(&path, &read(&path)?, false)?;
        }
    }
    Ok(registries)
}

/// The files of a folder that count, in their order.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigurationError> {
    let wrong = |error: std::io::Error| ConfigurationError::new(folder, "cannot be listed").because(error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().map_err(wrong)?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "conf") && !path.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_file_counts_instead_of_the_systems_and_folders_add() {
        let place = tempfile::tempdir().unwrap();
        let (etc, own) = (place.path().join("etc"), place.path().join("own"));
        let blocked = |registries: &Registries, host: &str| {
            let name = format!("{host}/x").parse().unwrap();
            registries.push(&name).blocked.is_some()
        };
        let write = |path: PathBuf, host: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("[[registry]]\nlocation = {host:?}\nblocked = true\n")).unwrap();
        };
        let found = |expected: &[&str]| {
            let registries = usual_registries(&etc, Some(&own)).unwrap();
            let hosts = ["etc.io", "etc-d.io", "own.io", "own-d.io", "other.io"];
            let found: Vec<&str> = hosts.into_iter().filter(|host| blocked(&registries, host)).collect();
            assert_eq!(found, expected);
        };
        found(&[]);
        write(etc.join(REGISTRIES), "etc.io");
        write(etc.join(DROP_INS).join("a.conf"), "etc-d.io");
        write(etc.join(DROP_INS).join("a.other"), "other.io");
        write(own.join(DROP_INS).join("a.conf"), "own-d.io");
        found(&["etc.io", "etc-d.io", "own-d.io"]);
        write(own.join(REGISTRIES), "own.io");
        found(&["own.io", "own-d.io"]);
    }
}
