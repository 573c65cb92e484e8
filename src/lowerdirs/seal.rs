//! What a layer's directory was when it was unpacked, so that it can be told later whether it still is that (rule S8).
//!
//! Two digests of the whole tree. That of its *stat data* (names, types, modes, owners, sizes, times) needs one
//! statx(2) a file and no reading. It has the time of the last change of each inode (ctime), which the kernel sets and no
//! program can set back: whatever was written, removed or renamed through the file system is noticed. Bits that rotted
//! on the disk, or blocks that were written past the file system, are not: that is what the digest of the *contents* is for,
//! with all bytes of all files, links and extended attributes, but without what a copy of the tree would not have.

use std::ffi::{CString, OsStr};
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use hashbrown::HashMap;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, readlinkat, statat};
use rustix::io::Errno;

use crate::core::digest::{Algorithm, Digest, Hasher};
use crate::fs::{Descent, openat};

/// Attributes that belong to the machine rather than to the image: labels and measurements.
const OF_THE_MACHINE: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];
/// Bytes of a file that are read at once, and left out together where they are all zeros.
const BLOCK: usize = 256 << 10;

/// What a tree was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seal {
    /// Files and directories, the root among them.
    pub(crate) entries: u64,
    /// The sum of the sizes of its regular files.
    pub(crate) size: u64,
    /// Of the stat data.
    pub(crate) stat: Digest,
    /// Of the contents; none if they were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
}

/// How much of a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The stat data.
    Stat,
    /// The contents, too.
    Content,
}

impl Seal {
    /// Looks at a tree. Neither its times of access nor anything else is changed by that.
    ///
    /// # Errors
    /// What cannot be read, but for what its mode forbids to its owner.
    pub(crate) fn of(tree: BorrowedFd<'_>, depth: Depth) -> Result<Self> {
        Self::with_newest(tree, depth).map(|(seal, _)| seal)
    }

    /// The same, and the path of what was changed last.
    pub(crate) fn with_newest(tree: BorrowedFd<'_>, depth: Depth) -> Result<(Self, PathBuf)> {
        let mut walk = Walk {
            stat: Hasher::new(Algorithm::Sha256),
            content: (depth == Depth::Content).then(|| Hasher::new(Algorithm::Sha256)),
            entries: 0,
            size: 0,
            links: HashMap::new(),
            buffer: Vec::new(),
            newest: ((i64::MIN, 0), PathBuf::new()),
            path: Vec::new(),
        };
        walk.run(tree)?;
        let seal = Self {
            entries: walk.entries,
            size: walk.size,
            stat: walk.stat.finish(),
            content: walk.content.map(Hasher::finish),
        };
        Ok((seal, walk.newest.1))
    }
}

struct Walk {
    stat: Hasher,
    content: Option<Hasher>,
    entries: u64,
    size: u64,
    /// The number of the first name of each file that has several.
    links: HashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
    newest: ((i64, u64), PathBuf),
    /// Components of the directory that the walk is in.
    path: Vec<CString>,
}

impl Walk {
    fn run(&mut self, tree: BorrowedFd<'_>) -> Result<()> {
        let root = open_quietly(tree, c".", OFlags::DIRECTORY)?;
        let status = fstat(&root)?;
        self.entry(b"", &status);
        if let Some(content) = &mut self.content {
            attributes(content, &status);
            xattrs(content, &itself(root.as_fd()))?;
        }
        let mut levels = vec![names(&root)?.into_iter()];
        let mut descent = Descent::new(root);
        while let Some(names_left) = levels.last_mut() {
            let Some(name) = names_left.next() else {
                levels.pop();
                self.end_of_directory();
                if !levels.is_empty() {
                    descent.leave()?;
                    self.path.pop();
                }
                continue;
            };
            let here = descent.here();
            let status = statat(here, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.entry(name.to_bytes(), &status);
            if self.content.is_some() {
                self.contents(here, &name, &status)?;
            }
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                match open_quietly(here, &name, OFlags::DIRECTORY) {
                    Ok(directory) => {
                        levels.push(names(&directory)?.into_iter());
                        descent.enter(directory);
                        self.path.push(name);
                    }
                    // Its mode forbids it to its owner, who is not root.
                    Err(Errno::ACCESS) => self.end_of_directory(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], status: &Stat) {
        self.entries += 1;
        let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        let size = if is_file { status.st_size.unsigned_abs() } else { 0 };
        self.size += size;
        let line = &mut self.buffer;
        line.clear();
        line.push(b'e');
        line.extend_from_slice(&(name.len() as u64).to_le_bytes());
        line.extend_from_slice(name);
        line.extend_from_slice(&status.st_mode.to_le_bytes());
        line.extend_from_slice(&status.st_uid.to_le_bytes());
        line.extend_from_slice(&status.st_gid.to_le_bytes());
        line.extend_from_slice(&status.st_rdev.to_le_bytes());
        line.extend_from_slice(&size.to_le_bytes());
        for (seconds, nanoseconds) in [(status.st_mtime, status.st_mtime_nsec), (status.st_ctime, status.st_ctime_nsec)]
        {
            line.extend_from_slice(&seconds.to_le_bytes());
            line.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        self.stat.update(line);
        #[allow(clippy::useless_conversion, reason = "other architectures have other types")]
        let changed = (i64::from(status.st_ctime), u64::from(status.st_ctime_nsec));
        if self.content.is_some() && changed >= self.newest.0 {
            let above = self.path.iter().map(|name| OsStr::from_bytes(name.to_bytes()));
            self.newest = (changed, above.chain([OsStr::from_bytes(name)]).collect());
        }
    }

    fn end_of_directory(&mut self) {
        self.stat.update(b".");
        if let Some(content) = &mut self.content {
            content.update(b".");
        }
    }

    /// What an entry is, as far as a copy of it would be the same.
    fn contents(&mut self, here: BorrowedFd<'_>, name: &CString, status: &Stat) -> Result<()> {
        let Some(content) = &mut self.content else { return Ok(()) };
        put(content, name.to_bytes());
        attributes(content, status);
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind != FileType::Directory && status.st_nlink > 1 {
            #[allow(clippy::useless_conversion, reason = "other architectures have other types")]
            let inode = (u64::from(status.st_dev), u64::from(status.st_ino));
            let first = *self.links.entry(inode).or_insert(self.entries);
            content.update(&first.to_le_bytes());
            if first != self.entries {
                return Ok(());
            }
        }
        xattrs(content, &itself(here).join(OsStr::from_bytes(name.to_bytes())))?;
        match kind {
            FileType::Symlink => put(content, readlinkat(here, name, Vec::new())?.to_bytes()),
            FileType::RegularFile => {
                content.update(&status.st_size.to_le_bytes());
                match open_quietly(here, name, OFlags::NONBLOCK) {
                    Ok(file) => {
                        blocks(content, &file, &mut self.buffer)?;
                        // No block begins here.
                        content.update(&u64::MAX.to_le_bytes());
                    }
                    Err(Errno::ACCESS) => content.update(b"unreadable"),
                    Err(error) => return Err(error.into()),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The content of a file: its blocks that are not all zeros, each with its place. So terabytes of holes cost nothing, and a copy
/// that has zeros in their place is the same.
fn blocks(content: &mut Hasher, file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.resize(BLOCK, 0);
    let mut at = 0;
    loop {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Only a hole is left, or nothing.
            Err(Errno::NXIO) => return Ok(()),
            // The file system knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        at = data - data % BLOCK as u64;
        let mut filled = 0;
        while filled < BLOCK {
            let read = || rustix::io::pread(file, &mut buffer[filled..], at + filled as u64);
            match rustix::io::retry_on_intr(read)? {
                0 => break,
                count => filled += count,
            }
        }
        if buffer[..filled].iter().any(|&byte| byte != 0) {
            content.update(&at.to_le_bytes());
            put(content, &buffer[..filled]);
        }
        if filled < BLOCK {
            return Ok(());
        }
        at += BLOCK as u64;
    }
}

/// What a copy of a file or directory has in common with it.
fn attributes(content: &mut Hasher, status: &Stat) {
    content.update(&status.st_mode.to_le_bytes());
    content.update(&status.st_uid.to_le_bytes());
    content.update(&status.st_gid.to_le_bytes());
    content.update(&status.st_rdev.to_le_bytes());
    content.update(&status.st_mtime.to_le_bytes());
    content.update(&status.st_mtime_nsec.to_le_bytes());
}

fn xattrs(content: &mut Hasher, path: &std::path::Path) -> Result<()> {
    let mut list = Vec::new();
    loop {
        let needed = match llistxattr(path, &mut [0_u8; 0]) {
            Ok(needed) => needed,
            Err(Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => 0,
            Err(error) => return Err(error.into()),
        };
        list.resize(needed, 0_u8);
        if needed == 0 {
            break;
        }
        match llistxattr(path, &mut list[..]) {
            Ok(length) => {
                list.truncate(length);
                break;
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut names: Vec<&[u8]> = list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
    names.retain(|name| !OF_THE_MACHINE.contains(name));
    names.sort_unstable();
    content.update(&(names.len() as u64).to_le_bytes());
    for name in names {
        put(content, name);
        let mut value = vec![0_u8; 64 << 10];
        match lgetxattr(path, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => put(content, &value[..length]),
            // A mode that forbids reading.
            Err(Errno::ACCESS | Errno::PERM) => content.update(b"unreadable"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn put(content: &mut Hasher, bytes: &[u8]) {
    content.update(&(bytes.len() as u64).to_le_bytes());
    content.update(bytes);
}

/// A path of what is open, for calls that take no handle.
fn itself(directory: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()))
}

/// The names in a directory, sorted.
fn names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in crate::fs::entries(directory)? {
        let entry = entry.map_err(Error::from)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens something without its time of access being changed by what is read, where that is allowed.
fn open_quietly(parent: BorrowedFd<'_>, name: &std::ffi::CStr, more: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Another user's file.
        Err(Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::open_path;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn seal(tree: &Path, depth: Depth) -> Seal {
        Seal::of(open_path(tree).unwrap().as_fd(), depth).unwrap()
    }

    fn tree() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("usr/bin/deep/er")).unwrap();
        fs::write(place.path().join("usr/bin/tool"), "a tool").unwrap();
        fs::hard_link(place.path().join("usr/bin/tool"), place.path().join("usr/bin/again")).unwrap();
        fs::write(place.path().join("usr/bin/deep/er/file"), "content").unwrap();
        symlink("tool", place.path().join("usr/bin/link")).unwrap();
        place
    }

    /// Keeps the times that a program can set.
    fn as_before(path: &Path, change: impl FnOnce()) {
        let before = fs::symlink_metadata(path).unwrap();
        change();
        let file = fs::File::open(path).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    }

    #[test]
    fn s8_holes_are_passed_over_and_are_the_same_as_zeros() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sparse");
        let content = || seal(place.path(), Depth::Content).content;
        let write = |size: u64, parts: &[(u64, &[u8])]| {
            let file = fs::File::create(&path).unwrap();
            for (at, bytes) in parts {
                std::os::unix::fs::FileExt::write_all_at(&file, bytes, *at).unwrap();
            }
            file.set_len(size).unwrap();
            file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
            let directory = fs::File::open(place.path()).unwrap();
            directory.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        };
        write(3 << 20, &[(1 << 20, b"data"), (2 << 20, b"more")]);
        let sparse = content();
        write(3 << 20, &[(0, &vec![0; 3 << 20]), (1 << 20, b"data"), (2 << 20, b"more")]);
        assert_eq!(content(), sparse);
        // Where the data is counts, and so does the size.
        write(3 << 20, &[(1 << 19, b"data"), (2 << 20, b"more")]);
        assert_ne!(content(), sparse);
        write((3 << 20) + 1, &[(1 << 20, b"data"), (2 << 20, b"more")]);
        assert_ne!(content(), sparse);
        // Reading all of this would take a day.
        write(4 << 40, &[(1 << 40, b"data")]);
        assert_ne!(content(), sparse);
    }

    #[test]
    fn s8_every_change_is_noticed_however_deep_it_is() {
        let place = tree();
        let file = place.path().join("usr/bin/deep/er/file");
        let changes: [&dyn Fn(); 6] = [
            &|| as_before(&file, || fs::write(&file, "").unwrap()),
            // As long as it was, and as old.
            &|| as_before(&file, || fs::write(&file, "CONTENT").unwrap()),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap(),
            &|| as_before(&place.path().join("usr"), || fs::write(place.path().join("usr/new"), "").unwrap()),
            &|| fs::remove_file(place.path().join("usr/bin/link")).unwrap(),
            &|| fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let before = seal(place.path(), Depth::Content);
            assert_eq!(seal(place.path(), Depth::Content), before, "change {number}");
            change();
            let after = seal(place.path(), Depth::Content);
            assert_ne!(after.stat, before.stat, "change {number}");
            assert_ne!(after.content, before.content, "change {number}");
        }
    }

    #[test]
    fn a_copy_has_the_same_contents() {
        let place = tree();
        let copy = tempfile::tempdir().unwrap();
        let done = std::process::Command::new("cp").arg("-a").arg(place.path()).arg(copy.path().join("c")).status();
        assert!(done.unwrap().success());
        let (one, other) = (seal(place.path(), Depth::Content), seal(&copy.path().join("c"), Depth::Content));
        assert_eq!(one.content, other.content);
        assert_ne!(one.stat, other.stat);
        assert_eq!((one.entries, one.size), (9, 19));
    }

    #[test]
    fn looking_changes_nothing() {
        let place = tree();
        let file = place.path().join("usr/bin/tool");
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let times = fs::FileTimes::new().set_modified(old).set_accessed(old);
        fs::File::open(&file).unwrap().set_times(times).unwrap();
        let (_, newest) = {
            let tree = open_path(place.path()).unwrap();
            Seal::with_newest(tree.as_fd(), Depth::Content).unwrap()
        };
        assert_eq!(fs::metadata(&file).unwrap().atime(), 1000);
        assert_eq!(newest, Path::new("usr/bin/tool"), "what was changed last");
    }
}
