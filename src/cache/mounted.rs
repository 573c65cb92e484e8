//! What is mounted, as far as this user can see it: a lower directory of an overlay is not to be removed.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::record::{Record, records};
use crate::core::limits::Limits;
use crate::fs::{mountinfo, open};
use crate::lowerdirs::{ErofsLayout, FILE_NAME};

/// The overlays and EROFS images that are mounted, in every mount namespace that has a process which may be looked at, and what other machines have
/// recorded.
#[derive(Debug)]
pub(super) struct Mounted {
    lines: Vec<Vec<u8>>,
    records: Vec<Record>,
}

impl Mounted {
    /// What of a cache is mounted.
    pub(super) fn look(cache: &Path) -> Self {
        let mut lines = Vec::new();
        // Other threads may be in other namespaces than this one.
        for mounts in lists(Path::new("/proc")).into_iter().chain(mountinfo()) {
            let kinds: [&[u8]; 4] = [b" - overlay ", b" - erofs ", b" - fuse.erofsfuse ", b" - fuse.fuse-overlayfs "];
            let is_ours = |line: &&[u8]| kinds.iter().any(|kind| find(line, kind).is_some());
            for line in mounts.split(|&byte| byte == b'\n').filter(is_ours) {
                lines.push(unescape(line));
                lines.extend(contents_of(line));
            }
        }
        lines.extend(backing_files());
        let mut records = records(cache);
        records.retain(|record| !record.is_over(|record| is_here(&lines, cache, record)));
        Self { lines, records }
    }

    /// Whether a directory of the cache is a layer of an overlay, or has what is mounted, here or elsewhere.
    pub(super) fn uses(&self, directory: &Path) -> bool {
        is_named(&self.lines, directory) || self.records.iter().any(|record| names(record, directory))
    }

    /// The machines that have recorded that they have something mounted.
    pub(super) fn hosts(&self) -> BTreeSet<String> {
        self.records.iter().map(|record| record.host().to_owned()).collect()
    }

    /// Removes the records of mounts that are over, and all of these machines.
    pub(super) fn tidy(cache: &Path, gone: &[String]) {
        let lines = Self::look(cache).lines;
        for record in records(cache) {
            let is_gone = gone.iter().any(|host| host == record.host());
            if is_gone || record.is_over(|record| is_here(&lines, cache, record)) {
                record.forget();
            }
        }
    }
}

/// The list of mounts of every mount namespace that has a process, once.
fn lists(proc: &Path) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let mut lists = Vec::new();
    let processes = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let ids = processes.filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit));
    for process in ids.map(|entry| entry.path()) {
        let namespace = std::fs::read_link(process.join("ns/mnt")).ok();
        if namespace.as_ref().is_some_and(|namespace| seen.contains(namespace)) {
            continue;
        }
        // A process may be another user's. One that has ended since tells nothing of its namespace, which others may be in.
        let Ok(mounts) = std::fs::read(process.join("mountinfo")) else { continue };
        seen.extend(namespace);
        lists.push(mounts);
    }
    lists
}

fn is_named(lines: &[Vec<u8>], directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    let within = [directory.as_os_str().as_bytes(), b"/"].concat();
    lines.iter().any(|line| find(line, &within).is_some())
}

/// Whether what a record is about is mounted here. What fuse-overlayfs mounts does not say what it uses.
fn is_here(lines: &[Vec<u8>], cache: &Path, record: &Record) -> bool {
    let target = format!(" {} ", record.target());
    record.uses().iter().any(|used| is_named(lines, &cache.join(used)))
        || lines.iter().any(|line| find(line, target.as_bytes()).is_some())
}

/// Whether a record names a directory, by its last two names: the others are each machine's own.
fn names(record: &Record, directory: &Path) -> bool {
    record.uses().iter().any(|used| directory.ends_with(used))
}

/// The files behind this machine's loop devices, which may be mounted.
fn backing_files() -> Vec<Vec<u8>> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter_map(|device| std::fs::read(device.path().join("loop/backing_file")).ok()).collect()
}

/// The paths that the options of what is mounted on a directory name, whose path must be canonical.
pub(super) fn paths_at(target: &Path) -> Vec<PathBuf> {
    let mounts = mountinfo().unwrap_or_default();
    let fields = |line: &[u8]| -> Vec<Vec<u8>> { line.split(|&byte| byte == b' ').map(unescape).collect() };
    let mut paths = Vec::new();
    for line in mounts.split(|&byte| byte == b'\n') {
        let fields = fields(line);
        if fields.get(4).is_none_or(|point| point.as_slice() != target.as_os_str().as_bytes()) {
            continue;
        }
        let behind = fields.iter().skip_while(|field| field.as_slice() != b"-").skip(2);
        let pieces = behind.flat_map(|field| field.split(|byte| b",=:".contains(byte)));
        paths.extend(
            pieces.filter(|piece| piece.starts_with(b"/")).map(|piece| PathBuf::from(OsStr::from_bytes(piece))),
        );
    }
    paths
}

/// What the contents of a mounted EROFS image lie in: the mount names only the image, and what lies beside that names the rest.
fn contents_of(line: &[u8]) -> Vec<Vec<u8>> {
    let source = find(line, b" - ").and_then(|at| line[at + 3..].split(|&byte| byte == b' ').nth(1));
    let source = unescape(source.unwrap_or_default());
    let description = Path::new(OsStr::from_bytes(&source)).with_file_name(FILE_NAME);
    // A name that anybody may have chosen.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = source.starts_with(b"/").then(|| open(&description, flags, Mode::empty()).ok()).flatten();
    let text = file.and_then(|file| {
        let mut text = Vec::new();
        File::from(file).take(Limits::default().metadata_size).read_to_end(&mut text).ok().map(|_| text)
    });
    let layout: Option<ErofsLayout> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(layout) = layout else { return Vec::new() };
    // Images of layers, which lie beside the whole image's directory.
    let beside = |file: &str| {
        let group = description.parent()?.parent()?;
        Some(group.join(ErofsLayout::shared_layer(file)?).join("").into_os_string().into_encoded_bytes())
    };
    let images = layout.images.iter().filter_map(|image| beside(&image.file));
    images.chain(layout.devices.iter().map(|device| device.path.clone().into_bytes())).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Undoes what proc(5) does to awkward bytes (`\040`), and what overlayfs wants before colons and commas.
fn unescape(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match (byte, octal) {
            (b'\\', Some(value)) => {
                plain.push(value);
                rest = &after[3..];
            }
            (b'\\', None) => rest = after,
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_names_are_read_as_they_are() {
        assert_eq!(unescape(br"lowerdir+=/a\040b\134c/x:\:y"), br"lowerdir+=/a b\c/x::y");
    }

    #[test]
    fn a_process_that_ends_while_it_is_looked_at_hides_no_mounts() {
        let proc = tempfile::tempdir().unwrap();
        for number in 1..=20 {
            let process = proc.path().join(number.to_string());
            std::fs::create_dir_all(process.join("ns")).unwrap();
            let namespace = format!("mnt:[{}]", number % 2);
            std::os::unix::fs::symlink(namespace, process.join("ns/mnt")).unwrap();
            // The others have ended since their namespace was looked at; whichever comes first, two are left of each.
            if number > 16 {
                std::fs::write(process.join("mountinfo"), format!("{} 1 0:2 / /m ro - overlay", number % 2)).unwrap();
            }
        }
        let mut found = lists(proc.path());
        found.sort();
        assert_eq!(found, [&b"0 1 0:2 / /m ro - overlay"[..], b"1 1 0:2 / /m ro - overlay"]);
    }

    #[test]
    fn only_what_is_within_is_used() {
        let place = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "one-2"].map(|name| place.path().join(name));
        std::fs::create_dir_all(&one).unwrap();
        std::fs::create_dir_all(&two).unwrap();
        let line =
            format!("29 1 0:2 / /m ro - overlay layflat lowerdir+={}/layers/0", two.canonicalize().unwrap().display());
        let mounted = Mounted { lines: vec![line.into_bytes()], records: Vec::new() };
        assert!(mounted.uses(&two) && !mounted.uses(&one));
    }
}
