//! Places in the container's root file system, where the image decides which names are links: none leads out.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, unlinkat};
use rustix::io::Errno;

/// The root of a container that is being made.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// What is at a path, if anything.
    pub(super) fn find(&self, path: &str) -> Result<Option<OwnedFd>, Errno> {
        match self.open(path) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A place to mount on, which is made where there is none; a link that leads nowhere gives way.
    pub(super) fn place(&self, path: &str, is_directory: bool) -> Result<OwnedFd, Errno> {
        let place = self.find_or_make(path, is_directory)?;
        // A link of the image's may lead to the root, which would be hidden.
        let [of_place, of_root] = [fstat(&place)?, fstat(&self.0)?];
        if (of_place.st_dev, of_place.st_ino) == (of_root.st_dev, of_root.st_ino) {
            Err(Errno::BUSY)
        } else {
            Ok(place)
        }
    }

    fn find_or_make(&self, path: &str, is_directory: bool) -> Result<OwnedFd, Errno> {
        match self.open(path) {
            Ok(found) => {
                let found_one = FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory;
                return match found_one == is_directory {
                    true => Ok(found),
                    false => Err(if is_directory { Errno::NOTDIR } else { Errno::ISDIR }),
                };
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let (above, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
        let parent = self.find_or_make(if above.is_empty() { "/" } else { above }, true)?;
        if matches!(name, "" | "." | "..") {
            return Err(Errno::INVAL);
        }
        let make = || match is_directory {
            true => mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
            false => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                crate::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        match make() {
            Err(Errno::EXIST) => {
                unlinkat(&parent, name, AtFlags::empty())?;
                make()?;
            }
            made => made?,
        }
        self.open(path)
    }

    fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        crate::fs::openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_out_and_what_is_missing_is_made() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("root");
        std::fs::create_dir_all(path.join("etc")).unwrap();
        std::fs::create_dir(place.path().join("outside")).unwrap();
        symlink("/run/none/resolv.conf", path.join("etc/resolv.conf")).unwrap();
        symlink("../../outside", path.join("out")).unwrap();
        let root = Root::new(crate::fs::open_path(&path).unwrap());
        root.place("/etc/resolv.conf", false).unwrap();
        assert!(path.join("etc/resolv.conf").symlink_metadata().unwrap().is_file());
        root.place("/a/b/c", true).unwrap();
        assert!(path.join("a/b/c").is_dir());
        assert_eq!(root.place("/a/b", false).unwrap_err(), Errno::ISDIR);
        assert_eq!(root.place("/etc/resolv.conf", true).unwrap_err(), Errno::NOTDIR);
        root.place("/out/x", true).unwrap();
        assert_eq!(std::fs::read_dir(place.path().join("outside")).unwrap().count(), 0);
        assert!(root.find("/none").unwrap().is_none());
    }
}
