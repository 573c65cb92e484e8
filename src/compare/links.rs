//! Compares hard links: which names share an inode in each tree.

use super::pair::Pair;
use crate::tree::{NodeId, Snapshot};
use hashbrown::HashMap;

/// Names that belong together in at least one of two trees, and are grouped otherwise in the other. A name is an index
/// into the pairs that were compared; groups and their members are in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Regrouped {
    pub(super) a: Vec<Vec<usize>>,
    pub(super) b: Vec<Vec<usize>>,
}

impl Regrouped {
    /// The first name of all.
    pub(super) fn first(&self) -> usize {
        self.a[0][0]
    }
}

/// Compares the hard links of the names that two trees have in common. A name that one tree lacks is a difference by
/// itself, and no reason to call the rest of its group different.
///
/// Two names are connected if they share an inode in either tree. If both trees agree, a set of connected names is one
/// inode in both; if it is several in either, the set is reported, once.
pub(super) fn regrouped(a: &Snapshot, b: &Snapshot, pairs: &[Pair]) -> Vec<Regrouped> {
    let mut connected = DisjointSets::new(pairs.len());
    let groups_in_a = groups(a, pairs.iter().map(|pair| pair.a), &mut connected);
    let groups_in_b = groups(b, pairs.iter().map(|pair| pair.b), &mut connected);

    let mut sets: HashMap<usize, Regrouped> = HashMap::new();
    for group in groups_in_a {
        sets.entry(connected.find(group[0])).or_default().a.push(group);
    }
    for group in groups_in_b {
        sets.entry(connected.find(group[0])).or_default().b.push(group);
    }
    sets.into_values().filter(|set| set.a.len() > 1 || set.b.len() > 1).collect()
}

/// The indexes of names by inode, in the order of each group's first name; members are connected.
fn groups(snapshot: &Snapshot, names: impl Iterator<Item = NodeId>, connected: &mut DisjointSets) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut by_inode: HashMap<(u64, u64), usize> = HashMap::new();
    for (index, name) in names.enumerate() {
        let group = *by_inode.entry(snapshot.entry(name).inode).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(members) => {
                connected.join(members[0], index);
                members.push(index);
            }
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Numbers that are connected, in sets.
struct DisjointSets {
    parent: Vec<usize>,
}

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self { parent: (0..count).collect() }
    }

    fn find(&mut self, mut number: usize) -> usize {
        while self.parent[number] != number {
            self.parent[number] = self.parent[self.parent[number]];
            number = self.parent[number];
        }
        number
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.parent[one.max(other)] = one.min(other);
    }
}
