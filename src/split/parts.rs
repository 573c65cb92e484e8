//! Which entries of a layer go together.

use hashbrown::{HashMap, HashSet};

use super::cut::{Cut, Kind};
use super::{Cuts, Part};
use crate::core::record::LayerPath;

/// The parts of a layer, each of at most `size` bytes where that is possible; or why it cannot be split.
pub(super) fn plan(cuts: &Cuts, size: u64) -> Result<Vec<Part>, &'static str> {
    let directories = directories(cuts)?;
    let mut parts = vec![Making::default()];
    // Whiteouts act on lower layers only (rule M1): in a later part they would delete what an earlier one has. A link
    // below that the layer replaces by a directory is not followed, so that directories are there with the first part.
    for (index, cut) in cuts.iter().enumerate() {
        if matches!(cut.kind, Kind::Marker | Kind::Directory) {
            parts[0].add(index, cut);
        }
    }
    // The part of each file by its names; of targets that are not in the layer, the part of their first link.
    let mut places: HashMap<&LayerPath, usize> = HashMap::new();
    for (index, cut) in cuts.iter().enumerate() {
        let target = match &cut.kind {
            Kind::HardLink(target) => Some(target),
            Kind::Leaf => None,
            Kind::Marker | Kind::Directory | Kind::LinkSource => continue,
        };
        let place = match target.and_then(|target| places.get(target)) {
            // One inode is in one layer.
            Some(&place) => place,
            None => {
                let last = parts.len() - 1;
                let needed = parents(cut, &directories).filter(|entry| !parts[last].has.contains(entry));
                let bytes: u64 = needed.map(|entry| cuts[entry].length()).sum::<u64>() + cut.length();
                let is_full = parts[last].bytes + bytes > size;
                if is_full && (parts[last].has_leaf || parts[last].bytes > size) {
                    parts.push(Making::default());
                }
                parts.len() - 1
            }
        };
        for parent in parents(cut, &directories) {
            parts[place].add(parent, &cuts[parent]);
        }
        parts[place].add(index, cut);
        parts[place].has_leaf = true;
        places.extend([Some(&cut.path), target].into_iter().flatten().map(|name| (name, place)));
    }
    Ok(parts.into_iter().map(Making::in_order).collect())
}

/// The last entry of each directory, in a layer that can be split.
fn directories(cuts: &Cuts) -> Result<HashMap<&LayerPath, usize>, &'static str> {
    let mut directories = HashMap::new();
    let mut leaves = HashSet::new();
    for (index, cut) in cuts.iter().enumerate() {
        match cut.kind {
            Kind::Marker => {}
            Kind::LinkSource => return Err("it has files that AUFS keeps for hard links"),
            Kind::Directory => drop(directories.insert(&cut.path, index)),
            Kind::Leaf | Kind::HardLink(_) => {
                if !leaves.insert(&cut.path) {
                    return Err("it has several entries of one name");
                }
            }
        }
    }
    if directories.keys().any(|name| leaves.contains(name)) {
        return Err("it has several entries of one name");
    }
    // Whoever unpacks this goes through a file of the same layer, most likely a symbolic link.
    let is_below_a_leaf = |cut: &Cut| ancestors(&cut.path).any(|parent| leaves.contains(&parent));
    if cuts.iter().any(is_below_a_leaf) {
        return Err("a parent of one of its entries is a symbolic link or a file of the same layer");
    }
    Ok(directories)
}

/// The entries of the directories that an entry is in.
fn parents<'a>(cut: &'a Cut, directories: &'a HashMap<&LayerPath, usize>) -> impl Iterator<Item = usize> + 'a {
    ancestors(&cut.path).filter_map(|parent| directories.get(&parent).copied())
}

fn ancestors(path: &LayerPath) -> impl Iterator<Item = LayerPath> {
    std::iter::successors(path.split_last(), |(parent, _)| parent.split_last().map(|(parent, _)| (parent, &b""[..])))
        .map(|(parent, _)| parent)
}

/// A part in the making.
#[derive(Default)]
struct Making {
    has: HashSet<usize>,
    bytes: u64,
    /// Whether anything but directories and whiteouts is in it.
    has_leaf: bool,
}

impl Making {
    fn add(&mut self, index: usize, cut: &Cut) {
        if self.has.insert(index) {
            self.bytes += cut.length();
        }
    }

    /// In the order of the archive.
    fn in_order(self) -> Part {
        let mut part: Part = self.has.into_iter().collect();
        part.sort_unstable();
        part
    }
}

impl Cut {
    fn length(&self) -> u64 {
        self.end - self.start
    }
}
