//! Reads files of an unpacked root file system as a container would see them: symbolic links are resolved inside the
//! root, so that none leads out of it.

use super::error::BundleError;
use super::user::Accounts;
use crate::unpack::Owners;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Far beyond any list of users that a person has seen.
const LONGEST: u64 = 16 << 20;

/// An open root file system.
#[derive(Debug)]
pub(super) struct Rootfs {
    directory: OwnedFd,
    owners: Owners,
}

/// What a volume must know of the directory that it hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) mode: u32,
    /// As the container sees them.
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) is_directory: bool,
}

impl Rootfs {
    /// A root file system that was unpacked with such owners.
    pub(super) fn new(directory: OwnedFd, owners: Owners) -> Self {
        Self { directory, owners }
    }

    /// The image's users and groups; a file that is not there is an empty one.
    pub(super) fn accounts(&self) -> Result<Accounts, BundleError> {
        Ok(Accounts { passwd: self.read("/etc/passwd")?, group: self.read("/etc/group")? })
    }

    /// What is at a path, links followed.
    pub(super) fn status(&self, path: &str) -> Result<Option<Status>, BundleError> {
        let failed = |errno: Errno| BundleError::Rootfs { path: path.to_owned(), source: errno.into() };
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(file).map_err(failed)?;
        let (uid, gid) = match &self.owners {
            Owners::Shifted(maps) => (maps.uids.inside(stat.st_uid), maps.gids.inside(stat.st_gid)),
            // Where all is the caller's, it is root's in the container.
            Owners::AsTheyAre | Owners::Recorded => (
                Some(if stat.st_uid == rustix::process::geteuid().as_raw() { 0 } else { stat.st_uid }),
                Some(if stat.st_gid == rustix::process::getegid().as_raw() { 0 } else { stat.st_gid }),
            ),
        };
        let mode = stat.st_mode & 0o7777;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(Some(Status { mode, uid: uid.unwrap_or(0), gid: gid.unwrap_or(0), is_directory }))
    }

    /// Opens nothing but the name: a device or a FIFO would do something.
    fn open(&self, path: &str) -> Result<Option<OwnedFd>, BundleError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match crate::fs::openat2(&self.directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(BundleError::Rootfs { path: path.to_owned(), source: errno.into() }),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, BundleError> {
        let failed = |source| BundleError::Rootfs { path: path.to_owned(), source };
        let Some(name) = self.open(path)? else {
            return Ok(Vec::new());
        };
        let stat = rustix::fs::fstat(&name).map_err(|errno| failed(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(std::io::Error::other("it is not a regular file")));
        }
        // By its number, which is the same file: it was looked at before.
        let file = File::open(format!("/proc/self/fd/{}", name.as_raw_fd())).map_err(failed)?;
        let mut text = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > LONGEST { Err(failed(std::io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out_of_the_image() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("data")).unwrap();
        std::fs::write(place.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        let rootfs = Rootfs::new(crate::fs::open_path(&root).unwrap(), Owners::AsTheyAre);

        assert_eq!(rootfs.accounts().unwrap().passwd, b"");
        for target in ["../../secret", "/secret", "../../../../../secret"] {
            symlink(target, root.join("etc/passwd")).unwrap();
            assert_eq!(rootfs.accounts().unwrap().passwd, b"inside", "{target}");
            std::fs::remove_file(root.join("etc/passwd")).unwrap();
        }
        std::fs::create_dir(root.join("etc/passwd")).unwrap();
        assert!(rootfs.accounts().unwrap_err().to_string().contains("/etc/passwd"));
        std::fs::remove_dir(root.join("etc/passwd")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("etc/passwd"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = rootfs.accounts().unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(reason, "it is not a regular file");
        assert!(rootfs.status("/data").unwrap().is_some());
        assert!(rootfs.status("/none").unwrap().is_none());
    }
}
