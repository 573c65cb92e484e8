//! Which machines have something of a cache mounted: `mounts/<name>`, one small file for each mount, since a machine sees only its own.
//!
//! A record is written before the mount is made, while what it is about is locked, and nothing that a record names is removed. It goes when `layflat
//! umount` ends the mount, and when the machine itself finds that it is over: no such mount is there, or the machine was started again. Of other
//! machines nobody knows that; what one has recorded that is gone for good is forgotten when it is said to be.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use serde::{Deserialize, Serialize};

use super::contents::{EROFS, OLD, begins_with_digest};
use super::image::{IMAGES, layers_of};
use super::mounted::paths_at;
use super::node::{Process, is_first_pid_namespace, machine};
use super::renew;
use crate::core::digest::Digest;
use crate::core::limits::Limits;
use crate::lowerdirs::{ErofsLayout, FILE_NAME};
use crate::userns::in_user_namespace;

/// The directory of a cache that holds them.
const MOUNTS: &str = "mounts";
/// The version of the file. Something of another one is kept, and so is all that it names in the same way.
const FORMAT: u32 = 1;

/// Nobody takes so long between recording a mount and making it.
const LONG_AGO: Duration = Duration::from_secs(600);

/// What a mount uses, and where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// Who made it.
    #[serde(flatten)]
    maker: Process,
    /// What the machine is called in each of its boots; none where that cannot be told from others.
    machine: Option<String>,
    /// Where it is mounted, for people.
    target: String,
    /// Directories of the cache, as `GROUP/NAME`.
    uses: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
    /// Whose it is, as this process sees users.
    #[serde(skip)]
    owner: u32,
}

impl Record {
    pub(super) fn uses(&self) -> &[String] {
        &self.uses
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn host(&self) -> &str {
        &self.maker.host
    }

    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Whether its maker must have made the mount, or failed, since.
    fn is_old(&self) -> bool {
        let written = self.path.metadata().and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > LONG_AGO))
    }

    /// Whether the mount is known to be over. `is_mounted`: whether it is mounted here, as far as that can be seen.
    pub(super) fn is_over(&self, is_mounted: impl Fn(&Self) -> bool) -> bool {
        if self.maker.is_of_this_boot() {
            let own = rustix::process::geteuid();
            let is_seen = own.as_raw() == self.owner || own.is_root() && !in_user_namespace();
            // Its maker may be about to mount it.
            return is_seen && (self.maker.has_ended() || self.is_old() && sees_all()) && !is_mounted(self);
        }
        self.machine.is_some() && self.machine == machine()
    }
}

/// Whether this process sees all processes of the machine, in containers too.
fn sees_all() -> bool {
    rustix::process::geteuid().is_root() && !in_user_namespace() && is_first_pid_namespace()
}

/// All records of a cache. Of one that cannot be read nobody knows anything.
pub(super) fn records(cache: &Path) -> Vec<Record> {
    let directory = cache.join(MOUNTS);
    let Ok(open) = File::open(&directory) else { return Vec::new() };
    if super::is_writable(&directory) {
        // NFS may have an older list. It sees by this that another machine has changed it.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(open.as_fd(), &Timestamps { last_access: now, last_modification: now });
    }
    records_in(&directory).collect()
}

fn records_in(directory: &Path) -> impl Iterator<Item = Record> + use<> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter_map(read)
}

fn read(path: PathBuf) -> Option<Record> {
    let mut bytes = Vec::new();
    let file = File::open(&path).ok()?;
    let owner = file.metadata().ok()?.uid();
    file.take(Limits::default().metadata_size).read_to_end(&mut bytes).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    Some(Record { path, owner, ..record })
}

/// Records that a directory with a `layflat.json` is about to be mounted, if it is one of a cache. Where that cannot be written, other machines do not
/// know of it.
pub(crate) fn record_mount(directory: &Path, target: &Path) {
    let write = || {
        let directory = directory.canonicalize().ok()?;
        let (cache, uses) = used_by(&directory)?;
        let target = target.canonicalize().ok()?;
        let maker = Process::this();
        let mounts = cache.join(MOUNTS);
        // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
        DirBuilder::new().recursive(true).mode(0o700).create(&mounts).ok()?;
        let name = name(&maker, &directory, &target);
        let target = target.to_string_lossy().into_owned();
        let (format, machine, path, owner) = (FORMAT, machine(), PathBuf::new(), 0);
        let record = Record { format, maker, machine, target, uses, path, owner };
        renew(&mounts, &name, &serde_json::to_vec(&record).ok()?).ok()
    };
    let _ = write();
}

/// The records of what is mounted on a directory, to be forgotten once it no longer is.
pub(crate) fn recorded_at(target: &Path) -> Vec<PathBuf> {
    let Some(target) = canonical(target) else { return Vec::new() };
    let caches: BTreeSet<PathBuf> = paths_at(&target).iter().filter_map(|path| cache_of(path)).collect();
    let records = caches.iter().flat_map(|cache| records_in(&cache.join(MOUNTS)));
    let is_there = |record: &Record| record.maker.is_of_this_boot() && Path::new(&record.target) == target;
    records.filter(is_there).map(|record| record.path).collect()
}

/// The real path of a mount point, which may be that of a program that has died: then nothing can be asked of the directory itself.
fn canonical(target: &Path) -> Option<PathBuf> {
    let by_parent = || {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(parent.canonicalize().ok()?.join(target.file_name()?))
    };
    target.canonicalize().ok().or_else(by_parent)
}

/// One for each mount of something at a place: a mount that fails leaves that of another one alone.
fn name(maker: &Process, directory: &Path, target: &Path) -> String {
    let [directory, target] = [directory, target].map(|path| path.as_os_str().as_bytes());
    Digest::sha256_of(&[maker.boot.as_bytes(), maker.host.as_bytes(), directory, target].join(&0)).hex().to_owned()
}

/// The cache that a directory is part of, and all of it that a mount of the directory uses.
fn used_by(directory: &Path) -> Option<(PathBuf, Vec<String>)> {
    let group = directory.parent()?;
    let cache = group.parent()?;
    let relative = |path: &Path| -> Option<String> {
        let mut names = path.strip_prefix(cache).ok()?.components();
        let (Component::Normal(group), Component::Normal(name)) = (names.next()?, names.next()?) else { return None };
        Some(format!("{}/{}", group.to_str()?, name.to_str()?))
    };
    let is_one = [IMAGES, EROFS, OLD].iter().any(|name| group.file_name().is_some_and(|group| group == *name))
        && begins_with_digest(directory.file_name()?.to_str()?);
    if !is_one {
        return None;
    }
    let mut uses = vec![relative(directory)?];
    uses.extend(layers_of(directory).iter().filter_map(|layer| relative(layer)));
    let text = std::fs::read(directory.join(FILE_NAME)).ok()?;
    if let Ok(layout) = serde_json::from_slice::<ErofsLayout>(&text) {
        let shared = layout.images.iter().filter_map(|image| ErofsLayout::shared_layer(&image.file));
        uses.extend(shared.map(|name| format!("{EROFS}/{name}")));
        uses.extend(layout.devices.iter().filter_map(|device| relative(&directory.join(&device.path))));
    }
    Some((cache.to_owned(), uses))
}

/// The cache that a path leads into.
fn cache_of(path: &Path) -> Option<PathBuf> {
    let is_one = |path: &&Path| {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let group = path.parent().and_then(name).unwrap_or_default();
        [super::LAYERS, IMAGES, EROFS, OLD].contains(&group.as_str())
            && name(path).is_some_and(|name| begins_with_digest(&name))
    };
    Some(path.ancestors().find(is_one)?.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(change: impl Fn(&mut Record)) -> Record {
        let mut record = Record {
            format: FORMAT,
            maker: Process::this(),
            machine: machine(),
            owner: rustix::process::geteuid().as_raw(),
            target: "/mnt".to_owned(),
            uses: vec!["images/a".to_owned()],
            path: PathBuf::new(),
        };
        change(&mut record);
        record
    }

    #[test]
    fn a_mount_is_over_if_this_machine_knows_that() {
        let not_mounted = |_: &Record| false;
        assert!(!record(|_| {}).is_over(not_mounted), "its maker is alive");
        let ended = |record: &mut Record| record.maker.started = Some(1);
        assert!(record(ended).is_over(not_mounted));
        assert!(!record(ended).is_over(|record| record.uses() == ["images/a"]));
        assert!(!record(|record| record.maker.boot = "another".to_owned()).is_over(not_mounted) || machine().is_some());
        let elsewhere = |record: &mut Record| {
            record.maker.boot = "another".to_owned();
            record.machine = Some("another".to_owned());
        };
        assert!(!record(elsewhere).is_over(not_mounted));
        let nameless = |record: &mut Record| {
            record.maker.boot = "another".to_owned();
            record.machine = None;
        };
        assert!(!record(nameless).is_over(not_mounted));
    }

    #[test]
    fn the_cache_that_a_path_leads_into_is_found() {
        let hex = "0".repeat(64);
        let path = format!("/var/my cache/erofs/sha256-{hex}/tree.erofs");
        assert_eq!(cache_of(Path::new(&path)), Some(PathBuf::from("/var/my cache")));
        assert_eq!(cache_of(Path::new("/var/erofs/sha256-1/tree.erofs")), None);
    }
}
