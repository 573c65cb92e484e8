//! A directory with an image in it and something beside it, and all that is there before and after a command.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use layflat::core::digest::Digest;
use rustix::mount::{UnmountFlags, unmount};

use super::scenes::Scene;
use crate::common::run::{self, Scratch};
use crate::common::text::{Attributes, Entry, Kind, Stack};
use crate::common::{images, tar, text};

/// Times from an image are older than this; others are of now.
const NOW: i64 = 1_500_000_000;
/// What directories of layflat's own are called while it works.
const OURS: &str = ".layflat-";

const STACK: &str = "D d(1770,5:6,m=111,user.k=v), F d/a(text,4755,7:8), F d/b(more), F old, D e, F e/x, L s->d/a, C null:1.3(666), P p | \
                     W old, O e, F e/y, H d/c=d/a, D d/f, F d/f/g | F d/b(newer), D h(700,1:2,m=5), F h/i";

/// A place for one run of a command.
pub(crate) struct Place(Scratch);

impl Place {
    /// With all that a scene begins with.
    pub(crate) fn of(scene: &Scene) -> Self {
        let place = Self(Scratch::new(run::tmpfs()));
        for directory in ["home", "tmp", "target", "neighbour/.layflat-of-another"] {
            fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        fs::write(place.path().join("neighbour/file"), "theirs").unwrap();
        fs::write(place.path().join("image.tar"), image()).unwrap();
        fs::write(place.path().join("old.tar"), images::podman_archive(&[(&["old:1"], &[&images::layer("before")])]))
            .unwrap();
        for arguments in scene.before {
            super::run::undisturbed(place.path(), arguments);
        }
        place.unmount();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }

    /// Whether something is mounted on the target.
    pub(crate) fn is_mounted(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        device(&self.path().join("target")) != device(self.path())
    }

    pub(crate) fn unmount(&self) {
        while unmount(self.path().join("target"), UnmountFlags::DETACH).is_ok() {}
        self.unmount_bundle();
    }

    /// A bundle is whole without its mount, which the next start of the machine takes away, too.
    pub(crate) fn unmount_bundle(&self) {
        while unmount(self.path().join("out/rootfs"), UnmountFlags::DETACH).is_ok() {}
    }

    /// Removes what a command has made at the top, but not what it left unfinished, and not the cache.
    pub(crate) fn begin_again(&self, before: &Shown) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().to_owned();
            if before.0.contains_key(&name) || name.starts_with(OURS) || name == "cache" {
                continue;
            }
            layflat::remove_tree(&entry.path());
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn image() -> Vec<u8> {
    let mut stack = Stack::parse(STACK);
    // More than one buffer, and a hole.
    let large: Vec<u8> = (0..150_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let kind = Kind::File(large);
    stack.0[1].push(Entry { name: b"large".to_vec(), attributes: Attributes::default_of(&kind), kind });
    let layers: Vec<Vec<u8>> = stack.0.iter().map(|layer: &text::Layer| tar::archive(layer)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    images::podman_archive(&[(&["demo:1"], &layers)])
}

/// All files, each with what is to be known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown(pub(crate) BTreeMap<String, String>);

/// Whether it is what the cache notes of a mount for other machines: its name and what it says are of the place and the process, and it may be there or not.
fn is_record_of_mount(name: &str) -> bool {
    let record = name.split_once("/mounts/").map(|(_, record)| record);
    record.is_some_and(|record| record.len() == 64 && record.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Shown {
    pub(crate) fn of(place: &Place) -> Self {
        place.unmount_bundle();
        let mut all = BTreeMap::new();
        let mut inodes: BTreeMap<(u64, u64), String> = BTreeMap::new();
        for entry in walkdir::WalkDir::new(place.path()).min_depth(1).sort_by_file_name() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(place.path()).unwrap().to_string_lossy().into_owned();
            if is_record_of_mount(&name) {
                continue;
            }
            let mut described = describe(entry.path());
            let metadata = entry.metadata().unwrap();
            if metadata.nlink() > 1 && !metadata.is_dir() && !is_unfinished(&name) {
                let first = inodes.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone());
                if *first != name {
                    described.push_str(&format!(" the same as {first}"));
                }
            }
            all.insert(name, described);
        }
        Self(all)
    }

    /// Without the cache.
    pub(crate) fn results(&self) -> Self {
        self.filtered(|name| name != "cache" && !name.starts_with("cache/"))
    }

    /// The cache alone. What killed processes leave in it begins with `new-`, and `layflat cache prune` removes it.
    pub(crate) fn cache(&self) -> Self {
        self.filtered(|name| name.starts_with("cache/") && !name.split('/').any(|part| part.starts_with("new-")))
    }

    /// Without what was not finished.
    pub(crate) fn finished(&self) -> Self {
        self.filtered(|name| !is_unfinished(name))
    }

    /// Without the blobs that have come to a layout which was there before, as long as its index is the old one.
    pub(crate) fn without_unnamed_blobs(&self, before: &Self, good: &Self) -> Self {
        const INDEX: &str = "out/index.json";
        if !before.0.contains_key(INDEX) || self.0.get(INDEX) != before.0.get(INDEX) {
            return self.clone();
        }
        let is_new =
            |name: &str| name.starts_with("out/blobs/") && !before.0.contains_key(name) && good.0.contains_key(name);
        self.filtered(|name| !is_new(name))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).map(|(name, is)| (name.clone(), is.clone())).collect())
    }

    /// Whatever differs between two good results is not compared.
    pub(crate) fn settle(&mut self, other: &Self) -> Vec<String> {
        let mut varies = Vec::new();
        for (name, is) in &mut self.0 {
            if other.0.get(name).is_some_and(|other| other != is) {
                *is = "*".to_owned();
                varies.push(name.clone());
            }
        }
        varies
    }

    /// What is other than expected, the first of it.
    pub(crate) fn differences(&self, expected: &Self) -> Option<String> {
        let mut differences = Vec::new();
        for name in self.0.keys().chain(expected.0.keys().filter(|name| !self.0.contains_key(*name))) {
            match (self.0.get(name), expected.0.get(name)) {
                (Some(is), Some(expected)) if is != expected && expected != "*" => {
                    differences.push(format!("{name}: {is}, not {expected}"));
                }
                (Some(_), None) => differences.push(format!("{name} is there")),
                (None, Some(_)) => differences.push(format!("{name} is missing")),
                _ => {}
            }
        }
        let more = differences.len().saturating_sub(4);
        differences.truncate(4);
        (!differences.is_empty()).then(|| format!("{}, {more} more", differences.join("; ")))
    }
}

fn is_unfinished(name: &str) -> bool {
    !name.starts_with("neighbour/") && name.split('/').any(|part| part.starts_with(OURS))
}

fn describe(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let content = if metadata.is_file() {
        let digest = fs::read(path).map(|bytes| Digest::sha256_of(&bytes).hex()[..8].to_owned());
        digest.unwrap_or_else(|error| error.to_string())
    } else if metadata.is_symlink() {
        fs::read_link(path).unwrap_or_else(|_| PathBuf::from("?")).display().to_string()
    } else {
        metadata.rdev().to_string()
    };
    let time = Some(metadata.mtime()).filter(|&time| time < NOW).map_or("now".to_owned(), |time| time.to_string());
    let mut xattrs: Vec<String> = xattr::list(path)
        .into_iter()
        .flatten()
        .map(|name| {
            let value = xattr::get(path, &name).ok().flatten().unwrap_or_default();
            format!("{}={}", name.to_string_lossy(), text::escape(&value))
        })
        .collect();
    xattrs.sort();
    format!("{:o} {}:{} {time} {content} {}", metadata.mode(), metadata.uid(), metadata.gid(), xattrs.join(" "))
}
