//! Programs that are looked for by their names.

use std::ffi::OsStr;

/// Whether a program is in a directory of the PATH that this user can look into.
pub fn is_on_path(program: impl AsRef<OsStr>) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program.as_ref()).is_file())
}
