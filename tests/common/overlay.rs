//! Real overlay mounts that are changed at random, and what a writer of layers makes of their upper directories.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::run::{self, Scratch};
use super::text::{Attributes, Entry, Kind, Layer, Stack};
use super::tree::{Node, Shape, Tree};

pub struct Mount(PathBuf);

impl Mount {
    pub fn overlay(at: PathBuf, lower: &[PathBuf], upper: &Path, work: &Path, options: &str) -> Self {
        let lower: Vec<&str> = lower.iter().map(|path| path.to_str().unwrap()).collect();
        let (upper, work) = (upper.display(), work.display());
        let options = format!("lowerdir={},upperdir={upper},workdir={work},{options}", lower.join(":"));
        let options = CString::new(options).unwrap();
        rustix::mount::mount("overlay", &at, "overlay", MountFlags::empty(), options.as_c_str())
            .unwrap_or_else(|error| panic!("mount: {error}: {options:?}"));
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// One change of a mounted tree. What cannot be done, such as to rename a directory into itself, is not done.
pub fn change(root: &Path, random: &mut fastrand::Rng, number: u32) {
    let all: Vec<walkdir::DirEntry> =
        walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap).collect();
    let of = |wanted: fn(&fs::FileType) -> bool| -> Vec<&Path> {
        all.iter().filter(|entry| wanted(&entry.file_type())).map(walkdir::DirEntry::path).collect()
    };
    let any: Vec<&Path> = all[1..].iter().map(walkdir::DirEntry::path).collect();
    let (directories, files, links) =
        (of(fs::FileType::is_dir), of(fs::FileType::is_file), of(fs::FileType::is_symlink));
    let mut pick = |list: &[&Path]| random.choice(list).map(|path| path.to_path_buf());
    let (Some(directory), Some(other)) = (pick(&directories), pick(&directories)) else {
        return;
    };
    let (file, path, target, link) = (pick(&files), pick(&any), pick(&any), pick(&links));
    let inside = |directory: &Path| Path::new("/").join(directory.strip_prefix(root).unwrap());
    // Few names, so that what is gone comes back as something else.
    let name = ["f", "b", "c", "new", "e", "x"][random.usize(..6)];
    let is_special = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file());
    let _ = match (random.u8(..22), file, path, target) {
        // To write to a FIFO is to wait for a reader, and a symlink may lead out of the tree.
        (0 | 1, ..) if is_special(&directory.join(name)) => Ok(()),
        (0 | 1, ..) => fs::write(directory.join(name), format!("content {number}")),
        (2, ..) => fs::create_dir(directory.join(name)),
        (3, Some(file), ..) => fs::OpenOptions::new()
            .append(true)
            .open(file)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b" and more")),
        (4 | 5, _, Some(path), _) => fs::rename(path, directory.join(name)),
        (6, ..) if directory != root => fs::rename(&directory, other.join(name)),
        (7, _, Some(path), _) => fs::remove_file(path),
        (8, ..) if directory != root => fs::remove_dir_all(&directory),
        (9, Some(file), ..) => fs::hard_link(file, directory.join(name)),
        (10, _, Some(path), _) if !path.is_symlink() => {
            fs::set_permissions(path, fs::Permissions::from_mode(random.u32(..0o10000) | 0o400))
        }
        (11, _, Some(path), _) if !path.is_symlink() => {
            xattr::set(path, "trusted.changed", number.to_string().as_bytes())
        }
        (12, Some(file), ..) => std::os::unix::fs::lchown(file, Some(random.u32(..70000)), Some(7)),
        (13, _, Some(path), Some(target)) => fs::rename(path, target),
        (14 | 15, ..) => symlink(inside(&directory), other.join(name)),
        (16, ..) if directory != root => {
            fs::remove_dir_all(&directory).and_then(|()| symlink(inside(&other), &directory))
        }
        // As /lib became a link to /usr/lib.
        (17, ..) if directory != root => {
            let place = other.join(name);
            fs::rename(&directory, &place).and_then(|()| symlink(inside(&place), &directory))
        }
        (18..=20, ..) if let Some(link) = link => fs::remove_file(&link).and_then(|()| match random.u8(..4) {
            0 => fs::write(&link, format!("content {number}")),
            1 => symlink("c", &link),
            _ => fs::create_dir(&link).and_then(|()| fs::create_dir(link.join(name))),
        }),
        _ => symlink("../b", directory.join(name)),
    };
}

/// How a writer says that a directory is another one than that below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As Docker's overlay2: an opaque marker for every directory that the kernel made opaque, whatever is below.
    OpaqueEverywhere,
    /// As buildah: an opaque marker where a directory is below.
    OpaqueOverDirectories,
    /// As containerd: whiteouts for all that is below and not here.
    Whiteouts,
}

/// Layers of mounts on top of each other, and what the last mount showed.
pub fn changed_mounts(seed: u64, manner: Manner) -> (Stack, Tree) {
    let mut random = fastrand::Rng::with_seed(seed);
    let scratch = Scratch::new(run::tmpfs());
    let directory = |name: String| {
        let path = scratch.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let mountpoint = directory("mount".to_owned());
    let mut lower = vec![directory("empty".to_owned())];
    let (mut layers, mut below) = (Vec::new(), Tree::default());
    for number in 0..random.usize(2..=4) {
        let (upper, work) = (directory(format!("upper{number}")), directory(format!("work{number}")));
        let mount =
            Mount::overlay(mountpoint.clone(), &lower, &upper, &work, "redirect_dir=off,metacopy=off,index=off");
        for step in 0..random.u32(5..=if number == 0 { 50 } else { 25 }) {
            change(&mountpoint, &mut random, step);
        }
        let shown = Tree::of_directory(&mountpoint);
        drop(mount);
        let mut layer = layer(&Tree::of_directory(&upper), &below, manner);
        let is_mark = |entry: &Entry| matches!(entry.kind, Kind::Whiteout | Kind::Opaque);
        match random.u8(..4) {
            0 => layer.sort_by_key(is_mark),
            1 => layer.sort_by_key(|entry| !is_mark(entry)),
            _ => {}
        }
        layers.push(layer);
        lower.insert(0, upper);
        below = shown;
    }
    (Stack(layers), below)
}

/// The layer of an upper directory, on what the directories below show.
fn layer(upper: &Tree, below: &Tree, manner: Manner) -> Layer {
    let mut layer = Layer::new();
    // Directories that nothing shows through: opaque ones, and what is in them.
    let mut cut: HashSet<&[u8]> = HashSet::new();
    for (path, node) in &upper.0 {
        let kind = match &node.shape {
            Shape::Character(0, 0) => Kind::Whiteout,
            Shape::Directory => Kind::Directory,
            _ if node.first != *path => Kind::HardLink(node.first.clone()),
            Shape::File(content) => Kind::File(content.clone()),
            Shape::Symlink(target) => Kind::Symlink(target.clone()),
            other => panic!("{other:?}"),
        };
        let name = if path.is_empty() { b".".to_vec() } else { path.clone() };
        layer.push(Entry { name: name.clone(), attributes: attributes(node, &kind), kind });
        if node.shape != Shape::Directory {
            continue;
        }
        let is_opaque = node.attributes.xattrs.contains_key(&b"trusted.overlay.opaque"[..]);
        if is_opaque || cut.contains(parent(path)) {
            cut.insert(path);
        }
        let is_directory_below = below.0.get(path).is_some_and(|node| node.shape == Shape::Directory);
        match manner {
            Manner::OpaqueEverywhere if is_opaque => layer.push(mark(Kind::Opaque, name)),
            Manner::OpaqueOverDirectories if is_opaque && is_directory_below => layer.push(mark(Kind::Opaque, name)),
            Manner::Whiteouts if cut.contains(&path[..]) => {
                let is_gone = |name: &&Vec<u8>| parent(name) == path && !upper.0.contains_key(*name);
                layer.extend(below.0.keys().filter(is_gone).map(|name| mark(Kind::Whiteout, name.clone())));
            }
            _ => {}
        }
    }
    layer
}

fn mark(kind: Kind, name: Vec<u8>) -> Entry {
    Entry { name, attributes: Attributes::default_of(&kind), kind }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn attributes(node: &Node, kind: &Kind) -> Attributes {
    if matches!(kind, Kind::Whiteout | Kind::HardLink(_)) {
        return Attributes::default_of(kind);
    }
    let mut attributes = node.attributes.clone();
    attributes.xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
    attributes
}
