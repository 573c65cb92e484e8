//! What a directory takes of the disk, as containerd counts it: the blocks of all files, each file once.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use hashbrown::HashSet;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::{Errno, Result};

use super::document::Usage;
use crate::fs::{Descent, open_directory, open_path};

/// Counts what is in a directory, and the directory. What a container removes meanwhile is passed over.
pub(super) fn of(directory: &Path) -> Result<Usage> {
    let mut count = Count::default();
    let root = open_path(directory)?;
    count.add(&fstat(&root)?);
    let mut levels = vec![count.names(&root)?];
    let mut walk = Descent::new(root);
    while let Some(names) = levels.last_mut() {
        let Some(name) = names.pop() else {
            levels.pop();
            if !levels.is_empty() {
                walk.leave()?;
            }
            continue;
        };
        match open_directory(walk.here(), name.as_bytes()) {
            Ok(entered) => {
                levels.push(count.names(&entered)?);
                walk.enter(entered);
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count.usage)
}

#[derive(Default)]
struct Count {
    usage: Usage,
    /// Those with several names.
    seen: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, status: &Stat) {
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        if !is_directory && status.st_nlink > 1 && !self.seen.insert((status.st_dev, status.st_ino)) {
            return;
        }
        self.usage.size += u64::try_from(status.st_blocks).unwrap_or_default() * 512;
        self.usage.inodes += 1;
    }

    /// Counts the files of a directory; the names of its directories, which are counted as well.
    fn names(&mut self, directory: &OwnedFd) -> Result<Vec<CString>> {
        let mut directories = Vec::new();
        for entry in crate::fs::entries(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => {
                    self.add(&status);
                    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                        directories.push(name.to_owned());
                    }
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(directories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_counts_once() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("d")).unwrap();
        std::fs::write(place.path().join("d/a"), [1; 5000]).unwrap();
        std::fs::hard_link(place.path().join("d/a"), place.path().join("b")).unwrap();
        let usage = of(place.path()).unwrap();
        assert_eq!(usage.inodes, 3);
        assert!(usage.size >= 5000, "{usage:?}");
    }
}
