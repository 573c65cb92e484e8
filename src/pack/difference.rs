//! Packs a whole tree as its difference from the tree below: new and changed files are written, deleted ones become
//! whiteouts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use hashbrown::HashSet;

use super::PackOptions;
use super::error::PackError;
use super::upper::join;
use super::write::Packing;
use crate::below::Source;
use crate::compare::{CompareOptions, What, differences};
use crate::tree::{NodeId, ROOT, Snapshot, SnapshotOptions, TreeKind};

pub(super) fn pack<'a, W: Write>(
    trees: &'a [Snapshot],
    options: &PackOptions,
    writer: &mut Packing<'a, W>,
) -> Result<(), PackError> {
    let [whole, below] = trees else {
        return Err(PackError::LowerCount(trees.len() - 1));
    };
    let snapshot = SnapshotOptions { cancel: options.cancel.clone(), ..SnapshotOptions::default() };
    let compare = CompareOptions { snapshot, ..CompareOptions::default() };
    let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut changed: BTreeSet<NodeId> = BTreeSet::new();
    for difference in differences(below, whole, &compare)? {
        let path = difference.path.as_bytes().strip_prefix(b"/").unwrap_or(difference.path.as_bytes());
        match difference.what {
            What::OnlyInA { .. } => drop(gone.insert(path.to_vec())),
            What::OnlyInB { .. } => changed.extend(whole.find(path).into_iter().flat_map(|node| all_in(whole, node))),
            What::HardLinks { a, b } => {
                let names = a.iter().chain(&b).flatten();
                changed.extend(names.filter_map(|name| whole.find(name.as_bytes())));
            }
            _ => changed.extend(whole.find(path)),
        }
    }
    // A file is written under all its names, or those that stay below would show another file.
    let inodes: HashSet<(u64, u64)> = changed
        .iter()
        .map(|&node| whole.entry(node))
        .filter(|entry| entry.kind != TreeKind::Directory)
        .map(|entry| entry.inode)
        .collect();
    let mut paths = Paths::new();
    let mut waiting = vec![(ROOT, Vec::new())];
    while let Some((node, names)) = waiting.pop() {
        let entry = whole.entry(node);
        let shares = entry.kind != TreeKind::Directory && inodes.contains(&entry.inode);
        if changed.contains(&node) || shares {
            add(&mut paths, whole, names.clone(), Some(node));
        }
        waiting.extend(
            whole.children(node).iter().map(|&child| (child, [&names[..], &[whole.name(child).to_vec()]].concat())),
        );
    }
    for path in gone {
        let names: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
        let directory = whole.find(&names[..names.len() - 1].join(&b'/'));
        // In what is not a directory any more nothing is left to be hidden.
        if directory.is_some_and(|directory| whole.entry(directory).kind == TreeKind::Directory) {
            add(&mut paths, whole, names, None);
        }
    }
    for (names, node) in paths {
        let path = names.iter().fold(Vec::new(), |path, name| join(&path, name));
        let Some(node) = node else {
            writer.whiteout(&path)?;
            continue;
        };
        let source = Source { tree: 0, node };
        if whole.entry(node).kind == TreeKind::Directory {
            writer.directory(&path, source)?;
        } else {
            writer.leaf(&path, source, source)?;
        }
    }
    Ok(())
}

/// What is to be written, by path; nothing stands for what is gone.
type Paths = BTreeMap<Vec<Vec<u8>>, Option<NodeId>>;

/// Adds a path, and the directories on the way to it: they keep what they have, also for engines that would make them
/// anew.
fn add(paths: &mut Paths, whole: &Snapshot, names: Vec<Vec<u8>>, node: Option<NodeId>) {
    for length in 0..names.len() {
        let above = names[..length].to_vec();
        let directory = whole.find(&above.join(&b'/'));
        paths.entry(above).or_insert(directory);
    }
    paths.insert(names, node);
}

/// A node and everything in it.
fn all_in(tree: &Snapshot, node: NodeId) -> Vec<NodeId> {
    let mut found = vec![node];
    let mut at = 0;
    while at < found.len() {
        found.extend_from_slice(tree.children(found[at]));
        at += 1;
    }
    found
}
