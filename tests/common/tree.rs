//! Trees: as text, as a directory on disk shows them, and how two of them differ. Nothing here is layflat's.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::text::{Attributes, attributes, attributes_text, escape, parenthesis, split, unescape};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Ghost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub shape: Shape,
    pub attributes: Attributes,
    /// The first name, in order, of the inode that this is a name of.
    pub first: Vec<u8>,
}

/// Paths from the root, which is empty; without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

fn default_of(shape: &Shape) -> Attributes {
    Attributes::with_mode(match shape {
        Shape::Directory => 0o755,
        Shape::Symlink(_) => 0o777,
        Shape::Ghost => 0,
        _ => 0o644,
    })
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl Tree {
    pub fn parse(text: &str) -> Self {
        let mut tree = Self::default();
        let root = Node { shape: Shape::Directory, attributes: Attributes::unnamed(), first: Vec::new() };
        tree.0.insert(Vec::new(), root);
        let mut links = Vec::new();
        for word in split(text, ' ') {
            let (head, inside) = parenthesis(word);
            if let Some((name, other)) = head.split_once('=') {
                links.push((unescape(name), unescape(other)));
                continue;
            }
            let (name, shape) = if head == "/" {
                ("", Shape::Directory)
            } else if let Some((name, target)) = head.split_once("->") {
                (name, Shape::Symlink(unescape(target)))
            } else if let Some(name) = head.strip_suffix('/') {
                (name, Shape::Directory)
            } else if let Some((name, what)) = head.split_once(':') {
                let number = || {
                    let (major, minor) = what[1..].split_once('.').unwrap();
                    (major.parse().unwrap(), minor.parse().unwrap())
                };
                match what.as_bytes()[0] {
                    b'c' => (name, Shape::Character(number().0, number().1)),
                    b'b' => (name, Shape::Block(number().0, number().1)),
                    b'p' => (name, Shape::Fifo),
                    _ => (name, Shape::Ghost),
                }
            } else {
                (head, Shape::File(last_component(&unescape(head)).to_vec()))
            };
            let path = unescape(name);
            let mut node = Node { attributes: default_of(&shape), shape, first: path.clone() };
            if path.is_empty() {
                node.attributes = Attributes::unnamed();
            }
            if let Some(inside) = inside {
                let is_file = matches!(node.shape, Shape::File(_));
                if let Some(content) = attributes(inside, is_file, &mut node.attributes) {
                    node.shape = Shape::File(content);
                }
            }
            tree.0.insert(path, node);
        }
        for (name, other) in links {
            let node = tree.0.get(&other).unwrap_or_else(|| panic!("{name:?} is a link to nothing")).clone();
            tree.0.insert(name, node);
        }
        tree.regroup();
        tree
    }

    /// Names each inode by its first name.
    pub fn regroup(&mut self) {
        let mut first: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for (path, node) in &mut self.0 {
            let name = first.entry(node.first.clone()).or_insert_with(|| path.clone());
            node.first = name.clone();
        }
    }

    /// What a directory shows, each name by readdir and lstat.
    pub fn of_directory(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut inodes: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let place = if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(&path)) };
            let metadata = match fs::symlink_metadata(&place) {
                Ok(metadata) => metadata,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{place:?}: {error}");
                    let node = Node { shape: Shape::Ghost, attributes: default_of(&Shape::Ghost), first: path.clone() };
                    tree.0.insert(path, node);
                    continue;
                }
            };
            let kind = metadata.file_type();
            let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            let shape = if kind.is_dir() {
                for entry in fs::read_dir(&place).unwrap() {
                    let name = entry.unwrap().file_name().into_vec();
                    pending.push(if path.is_empty() { name } else { [&path[..], b"/", &name].concat() });
                }
                Shape::Directory
            } else if kind.is_symlink() {
                Shape::Symlink(fs::read_link(&place).unwrap().into_os_string().into_vec())
            } else if kind.is_char_device() {
                Shape::Character(device.0, device.1)
            } else if kind.is_block_device() {
                Shape::Block(device.0, device.1)
            } else if kind.is_fifo() {
                Shape::Fifo
            } else {
                Shape::File(fs::read(&place).unwrap_or_else(|error| panic!("{place:?}: {error}")))
            };
            let mut xattrs = BTreeMap::new();
            let names = xattr::list(&place).map(Iterator::collect::<Vec<_>>).or_else(|error| match error.kind() {
                // A SquashFS image of files that have none.
                std::io::ErrorKind::Unsupported => Ok(Vec::new()),
                _ => Err(error),
            });
            for name in names.unwrap() {
                if let Some(value) = xattr::get(&place, &name).unwrap() {
                    xattrs.insert(name.into_vec(), value);
                }
            }
            let attributes = Attributes {
                mode: if kind.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 },
                uid: metadata.uid(),
                gid: metadata.gid(),
                mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
                xattrs,
            };
            let first = if kind.is_dir() {
                path.clone()
            } else {
                inodes.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone()).clone()
            };
            tree.0.insert(path, Node { shape, attributes, first });
        }
        tree.regroup();
        tree
    }

    fn word(path: &[u8], node: &Node) -> String {
        let name = escape(path);
        if node.first != path {
            return format!("{name}={}", escape(&node.first));
        }
        let default = if path.is_empty() { Attributes::unnamed() } else { default_of(&node.shape) };
        let mut words = attributes_text(&node.attributes, &default);
        let head = match &node.shape {
            Shape::Directory => format!("{name}/"),
            Shape::Symlink(target) => format!("{name}->{}", escape(target)),
            Shape::Character(major, minor) => format!("{name}:c{major}.{minor}"),
            Shape::Block(major, minor) => format!("{name}:b{major}.{minor}"),
            Shape::Fifo => format!("{name}:p"),
            Shape::Ghost => format!("{name}:ghost"),
            Shape::File(content) => {
                if content != last_component(path) || !words.is_empty() {
                    words.insert(0, escape(content));
                }
                name
            }
        };
        if words.is_empty() { head } else { format!("{head}({})", words.join(",")) }
    }

    /// A line for each name that differs.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut paths: Vec<&Vec<u8>> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let word = |tree: &Self| tree.0.get(path).map_or("nothing".to_owned(), |node| Self::word(path, node));
            if self.0.get(path) != other.0.get(path) {
                lines.push(format!("{}  instead of  {}", word(other), word(self)));
            }
        }
        lines
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let default = Node { shape: Shape::Directory, attributes: Attributes::unnamed(), first: Vec::new() };
        let words = self.0.iter().filter(|(path, node)| !path.is_empty() || **node != default);
        let words: Vec<String> = words.map(|(path, node)| Self::word(path, node)).collect();
        write!(formatter, "{}", words.join(" "))
    }
}
