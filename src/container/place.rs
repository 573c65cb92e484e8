//! A directory over which the container's files are mounted, out of sight of everybody else.

use std::path::{Path, PathBuf};

use super::ContainerError;

/// Directories that every system has. What lies in them is hidden in the container's mount namespace only.
const PLACES: [&str; 7] = ["/mnt", "/media", "/srv", "/opt", "/tmp", "/var/tmp", "/home"];

/// The first of them that holds nothing of what is needed.
pub(super) fn choose(needed: &[&Path]) -> Result<PathBuf, ContainerError> {
    let needed: Vec<PathBuf> =
        needed.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf())).collect();
    let is_free = |place: &Path| !needed.iter().any(|path| path.starts_with(place));
    let place = PLACES.iter().filter_map(|place| Path::new(place).canonicalize().ok());
    let mut place = place.filter(|place| place.is_dir() && is_free(place));
    place.next().ok_or_else(|| ContainerError::NoPlace(PLACES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_not_hidden() {
        let tmp =
            choose(&[Path::new("/mnt/x"), Path::new("/media"), Path::new("/srv/a"), Path::new("/opt/b/c")]).unwrap();
        assert_eq!(tmp, Path::new("/tmp").canonicalize().unwrap());
    }
}
