//! Whether somebody less privileged could change a file, or put another one in its place.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The sticky bit: in such a directory only its owner and the file's rename a file.
const STICKY: u32 = 0o1000;

/// A file that others could change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unguarded {
    /// Another user's.
    #[error(
        "{path:?} belongs to another user (uid {owner}), who could change what the mount shows; copy it to a place of your own"
    )]
    Owner {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write to it.
    #[error("{path:?} can be written to by others, who could change what the mount shows; use a place of your own, or: chmod go-w {}", .path.display())]
    Writable {
        /// The file, or a directory above it.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {path:?}: {error}")]
    Io {
        /// The file, or a directory above it.
        path: PathBuf,
        /// What the kernel says.
        error: std::io::Error,
    },
}

/// Checks that nobody but root and the caller can write to a file, or to any directory on the way to it (rule C3). The path has no symbolic links
/// in it and is absolute.
///
/// # Errors
/// The first that somebody else could write to.
pub fn check_guarded(path: &Path) -> Result<(), Unguarded> {
    let own = rustix::process::geteuid().as_raw();
    for at in path.ancestors() {
        let metadata = at.symlink_metadata().map_err(|error| Unguarded::Io { path: at.to_owned(), error })?;
        if metadata.uid() != own && metadata.uid() != 0 {
            return Err(Unguarded::Owner { path: at.to_owned(), owner: metadata.uid() });
        }
        // What is ours in a directory for everybody can be neither removed nor renamed by others.
        let is_shared = metadata.is_dir() && metadata.mode() & STICKY != 0;
        if metadata.mode() & 0o022 != 0 && !is_shared {
            return Err(Unguarded::Writable { path: at.to_owned() });
        }
    }
    Ok(())
}

/// Whether anybody but root and the caller could write to a file by its owner and mode.
pub(crate) fn is_writable_by_others(metadata: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    (metadata.uid() != own && metadata.uid() != 0) || metadata.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn c3_what_others_could_write_to_is_refused_wherever_on_the_way() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let (directory, file) = (place.join("d"), place.join("d/file"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&file, b"").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&directory, 0o755);
        mode(&file, 0o644);
        check_guarded(&file).unwrap();
        for (path, wrong, right) in [(&file, 0o664, 0o644), (&file, 0o646, 0o644), (&directory, 0o777, 0o1777)] {
            mode(path, wrong);
            assert!(matches!(check_guarded(&file), Err(Unguarded::Writable { path: found }) if found == *path));
            mode(path, right);
            check_guarded(&file).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(1234), None).unwrap();
            assert!(matches!(check_guarded(&file), Err(Unguarded::Owner { owner: 1234, .. })));
        }
    }
}
