//! Files and directories of this machine.

use std::path::PathBuf;

/// Those whose names begin so, directories with a slash at the end; hidden ones only if that is asked for.
pub(super) fn matching(word: &str) -> Vec<String> {
    let (directory, name) = match word.rfind('/') {
        Some(slash) => word.split_at(slash + 1),
        None => ("", word),
    };
    let Ok(entries) = std::fs::read_dir(place(directory)) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let own = entry.file_name().into_string().ok()?;
            let is_wanted = own.starts_with(name) && (name.starts_with('.') || !own.starts_with('.'));
            let is_directory = is_wanted && entry.path().is_dir();
            is_wanted.then(|| format!("{directory}{own}{}", if is_directory { "/" } else { "" }))
        })
        // What a terminal would obey cannot be typed, either.
        .filter(|path| !path.chars().any(char::is_control))
        .collect();
    found.sort();
    found
}

/// Where a directory is: the shell has not replaced `~` yet.
pub(super) fn place(directory: &str) -> PathBuf {
    match (directory, directory.strip_prefix("~/"), std::env::var_os("HOME")) {
        ("", ..) => PathBuf::from("."),
        (_, Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(directory),
    }
}
