//! Every path that an image has, or ever had, with what each layer did to it.
//!
//! A [`Timeline`] is one tree for all layers: deleted files stay in it, in their places, so that whoever shows it can go from layer to
//! layer and compare any two of them without replaying anything. It owns what it holds, and holds no contents.

use std::cmp::Ordering;
use std::ops::Range;

use hashbrown::HashSet;

use super::entry::{PathEntry, PathKind};
use super::{Inside, Traced};
use crate::core::digest::Digest;
use crate::core::record::{ContentId, LayerPath};
use crate::core::stack::{InodeId, Node, What};
use crate::core::text::Timestamp;

/// A path of a [`Timeline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u32);

impl PathId {
    /// A number that no other path of the timeline has: the root has 0, and every directory a smaller one than what is in it.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// What was at a path from some layer on.
#[derive(Debug, Clone)]
pub struct State {
    /// The layer that made it so, from 0 at the bottom.
    pub layer: usize,
    /// What is there; nothing where the layer deletes it.
    pub file: Option<FileState>,
}

/// What is known of a file without its path.
#[derive(Debug, Clone)]
pub struct FileState {
    /// What kind of thing it is.
    pub kind: PathKind,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Bytes of content, holes counted; of a symlink, bytes of its target.
    pub size: u64,
    /// Of a regular file, the layer that has its content, and which one it is there.
    pub content: Option<(usize, ContentId)>,
    /// A symlink's target, or a device's numbers, as text.
    pub detail: Option<Box<str>>,
    /// Of a file with several names, a number that they share.
    pub inode: Option<u32>,
    identity: Option<[u8; 32]>,
    digest: Option<Digest>,
    xattrs: u64,
}

/// How a path differs between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is nothing in either.
    Absent,
    /// There is the same.
    Same,
    /// Only the second has it.
    Added,
    /// Both have something, but not the same.
    Changed,
    /// Only the first has it.
    Deleted,
}

/// The sums of a comparison, by path.
#[derive(Debug, Default)]
pub struct Totals {
    sizes: Vec<u64>,
    deleted: Vec<u64>,
    touched: Vec<bool>,
}

#[derive(Debug)]
struct PathNode {
    parent: u32,
    first_child: u32,
    next: u32,
    name: Range<u32>,
    states: Range<u32>,
}

/// All paths of an image, through all its layers.
#[derive(Debug)]
pub struct Timeline {
    names: Vec<u8>,
    /// The root first, every directory before what is in it, names sorted by their bytes.
    nodes: Vec<PathNode>,
    /// Of each path in turn, bottom layer first.
    states: Vec<State>,
    /// Two images and not layers: whoever compared them has said what differs.
    is_comparison: bool,
}

const NONE: u32 = u32::MAX;

impl Timeline {
    /// The root directory.
    pub const ROOT: PathId = PathId(0);

    /// What each layer of an image did to every path.
    pub fn of(traced: &Traced<'_>) -> Self {
        let mut events: Vec<_> = traced.events.iter().map(|event| (traced.inside.stack.place(event), event)).collect();
        events.sort_by(|(one, left), (other, right)| compare_paths(one, other).then(left.layer.cmp(&right.layer)));
        Self::build(events.iter().map(|(path, event)| {
            let file = event.now.map(|node| traced.inside.file_state(node));
            (path, State { layer: event.layer, file })
        }))
    }

    /// Two images as if they were two layers: what only the first has is deleted by the second. Where both have something,
    /// `differs` says whether it is changed: [`differences`](crate::compare::differences) knows.
    pub fn between(first: &Inside<'_>, second: &Inside<'_>, differs: &dyn Fn(&LayerPath) -> bool) -> Self {
        let (one, other) = (first.shown(0), second.shown(1));
        let mut states: Vec<(LayerPath, State)> = Vec::with_capacity(one.len().max(other.len()));
        let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
        loop {
            let order = match (one.peek(), other.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => compare_paths(one, other),
            };
            if order == Ordering::Greater {
                states.extend(other.next());
                continue;
            }
            let Some((path, state)) = one.next() else { break };
            let now = if order == Ordering::Equal { other.next().map(|(_, state)| state) } else { None };
            let is_same = now.is_some() && !differs(&path);
            states.push((path.clone(), state));
            if !is_same {
                states.push((path, now.unwrap_or(State { layer: 1, file: None })));
            }
        }
        Self { is_comparison: true, ..Self::build(states.iter().map(|(path, state)| (path, state.clone()))) }
    }

    /// From states that are sorted by path, then by layer.
    fn build<'p>(sorted: impl Iterator<Item = (&'p LayerPath, State)>) -> Self {
        let root = PathNode { parent: 0, first_child: NONE, next: NONE, name: 0..0, states: 0..0 };
        let mut timeline = Self { names: Vec::new(), nodes: vec![root], states: Vec::new(), is_comparison: false };
        // The way to the path of before: each directory, and its last child so far.
        let mut way: Vec<(u32, u32)> = vec![(0, NONE)];
        for (path, state) in sorted {
            let mut depth = 1;
            for component in path.components() {
                let is_same = way.get(depth).is_some_and(|&(node, _)| timeline.name(PathId(node)) == component);
                if !is_same {
                    way.truncate(depth);
                    let (parent, last) = way[depth - 1];
                    let new = timeline.push(parent, last, component);
                    way[depth - 1].1 = new;
                    way.push((new, NONE));
                }
                depth += 1;
            }
            way.truncate(depth);
            let at = timeline.states.len() as u32;
            let node = &mut timeline.nodes[way[depth - 1].0 as usize];
            node.states.start = if node.states.is_empty() { at } else { node.states.start };
            node.states.end = at + 1;
            timeline.states.push(state);
        }
        timeline
    }

    fn push(&mut self, parent: u32, last: u32, name: &[u8]) -> u32 {
        let new = self.nodes.len() as u32;
        let start = self.names.len() as u32;
        self.names.extend_from_slice(name);
        let name = start..self.names.len() as u32;
        self.nodes.push(PathNode { parent, first_child: NONE, next: NONE, name, states: 0..0 });
        match last {
            NONE => self.nodes[parent as usize].first_child = new,
            last => self.nodes[last as usize].next = new,
        }
        new
    }

    fn node(&self, path: PathId) -> &PathNode {
        &self.nodes[path.0 as usize]
    }

    /// How many paths there are, the root counted.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// All paths, every directory before what is in it.
    pub fn paths(&self) -> impl Iterator<Item = PathId> + use<> {
        (0..self.nodes.len() as u32).map(PathId)
    }

    /// What is, or was, in a directory, sorted by name.
    pub fn children(&self, directory: PathId) -> impl Iterator<Item = PathId> + '_ {
        let first = self.node(directory).first_child;
        let some = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(some(first), move |&id| some(self.nodes[id as usize].next)).map(PathId)
    }

    /// Whether anything is, or was, in it.
    pub fn has_children(&self, path: PathId) -> bool {
        self.node(path).first_child != NONE
    }

    /// The directory that holds it; of the root, none.
    pub fn parent(&self, path: PathId) -> Option<PathId> {
        (path != Self::ROOT).then(|| PathId(self.node(path).parent))
    }

    /// Its last component; empty for the root.
    pub fn name(&self, path: PathId) -> &[u8] {
        let name = &self.node(path).name;
        &self.names[name.start as usize..name.end as usize]
    }

    /// The whole path.
    pub fn path(&self, path: PathId) -> LayerPath {
        let mut components: Vec<&[u8]> = Vec::new();
        let mut at = path;
        while let Some(parent) = self.parent(at) {
            components.push(self.name(at));
            at = parent;
        }
        LayerPath::of_components(components.into_iter().rev())
    }

    /// The path of that name.
    pub fn find(&self, path: &LayerPath) -> Option<PathId> {
        let step = |at, component: &[u8]| self.children(at).find(|&child| self.name(child) == component);
        path.components().try_fold(Self::ROOT, step)
    }

    /// All that was there, bottom layer first.
    pub fn states(&self, path: PathId) -> &[State] {
        let states = &self.node(path).states;
        &self.states[states.start as usize..states.end as usize]
    }

    /// What is there with the layers up to this one; before any layer, nothing.
    pub fn at(&self, path: PathId, layer: Option<usize>) -> Option<&FileState> {
        let layer = layer?;
        self.states(path).iter().rev().find(|state| state.layer <= layer)?.file.as_ref()
    }

    /// Bytes of the regular file that is there with the layers up to this one; of anything else, none.
    pub fn file_size(&self, path: PathId, layer: Option<usize>) -> u64 {
        self.at(path, layer).filter(|file| file.kind == PathKind::File).map_or(0, |file| file.size)
    }

    /// What was there last, up to this layer: a deleted file, too, with the layer that deleted it.
    pub fn last(&self, path: PathId, layer: usize) -> Option<(&FileState, Option<usize>)> {
        let mut states = self.states(path).iter().rev().skip_while(|state| state.layer > layer);
        let last = states.next()?;
        match &last.file {
            Some(file) => Some((file, None)),
            None => states.find_map(|state| state.file.as_ref()).map(|file| (file, Some(last.layer))),
        }
    }

    /// What is different at a path between the layers up to `from` and those up to `to`.
    pub fn change(&self, path: PathId, from: Option<usize>, to: usize) -> Change {
        match (self.at(path, from), self.at(path, Some(to))) {
            (None, None) => Change::Absent,
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Deleted,
            (Some(before), Some(now)) => {
                let is_same = if self.is_comparison { std::ptr::eq(before, now) } else { before.is_same(now) };
                if is_same { Change::Same } else { Change::Changed }
            }
        }
    }

    /// For every path the size of what is there and in it, and whether anything there or in it differs.
    pub fn totals(&self, from: Option<usize>, to: usize) -> Totals {
        let count = self.nodes.len();
        let mut totals = Totals { sizes: vec![0; count], deleted: vec![0; count], touched: vec![false; count] };
        let (mut counted, mut counted_before) = (HashSet::new(), HashSet::new());
        for index in (0..count).rev() {
            let path = PathId(index as u32);
            let size = |layer, counted: &mut HashSet<u32>| {
                let file = self.at(path, layer).filter(|file| file.kind == PathKind::File);
                file.filter(|file| file.inode.is_none_or(|inode| counted.insert(inode))).map_or(0, |file| file.size)
            };
            let change = self.change(path, from, to);
            let deleted = if change == Change::Deleted { size(from, &mut counted_before) } else { 0 };
            totals.sizes[index] = totals.sizes[index].saturating_add(size(Some(to), &mut counted));
            totals.deleted[index] = totals.deleted[index].saturating_add(deleted);
            totals.touched[index] |= !matches!(change, Change::Same | Change::Absent);
            if index > 0 {
                let parent = self.nodes[index].parent as usize;
                totals.sizes[parent] = totals.sizes[parent].saturating_add(totals.sizes[index]);
                totals.deleted[parent] = totals.deleted[parent].saturating_add(totals.deleted[index]);
                totals.touched[parent] |= totals.touched[index];
            }
        }
        totals
    }
}

impl Totals {
    /// Bytes of all regular files there and below, each inode once.
    pub fn size(&self, path: PathId) -> u64 {
        self.sizes.get(path.0 as usize).copied().unwrap_or_default()
    }

    /// Bytes of all regular files there and below that only the first has, each inode once.
    pub fn deleted(&self, path: PathId) -> u64 {
        self.deleted.get(path.0 as usize).copied().unwrap_or_default()
    }

    /// Whether there is a difference there or below.
    pub fn is_touched(&self, path: PathId) -> bool {
        self.touched.get(path.0 as usize).copied().unwrap_or_default()
    }
}

impl FileState {
    /// Whether all that is seen of it is the same; where its content is stored is not.
    pub fn is_same(&self, other: &Self) -> bool {
        let facts = |file: &Self| (file.kind, file.mode, file.uid, file.gid, file.mtime, file.size, file.xattrs);
        facts(self) == facts(other) && self.identity == other.identity && self.detail == other.detail
    }

    /// The attributes that differ, as `what`, `before`, `now`; the content as a whole.
    pub fn differences(&self, now: &Self) -> Vec<(&'static str, String, String)> {
        let mut list = Vec::new();
        let mut compare = |what, before: String, now: String| {
            if before != now {
                list.push((what, before, now));
            }
        };
        compare("type", self.kind.name().to_owned(), now.kind.name().to_owned());
        compare("mode", format!("{:04o}", self.mode), format!("{:04o}", now.mode));
        compare("owner", format!("{}:{}", self.uid, self.gid), format!("{}:{}", now.uid, now.gid));
        compare("size", self.size.to_string(), now.size.to_string());
        compare("mtime", self.mtime.to_string(), now.mtime.to_string());
        let detail = |file: &Self| file.detail.as_deref().unwrap_or_default().to_owned();
        compare(if now.kind == PathKind::Symlink { "target" } else { "device" }, detail(self), detail(now));
        if self.identity != now.identity && self.size == now.size {
            list.push(("content", "other".to_owned(), "other".to_owned()));
        }
        if self.xattrs != now.xattrs {
            list.push(("xattrs", "other".to_owned(), "other".to_owned()));
        }
        list
    }

    /// The digest of a regular file's content, unless its holes are too large to be hashed.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl Inside<'_> {
    /// All that the image shows, sorted by path, as of one layer.
    fn shown(&self, layer: usize) -> Vec<(LayerPath, State)> {
        let whole = self.stack.whole();
        let mut states = Vec::with_capacity(whole.entries().len());
        for (index, entry) in whole.entries().iter().enumerate() {
            let node = match entry.what {
                What::Directory { id, attributes, .. } => Node::Directory { id, attributes },
                What::Leaf(inode) => Node::Leaf(inode),
                What::Whiteout => continue,
            };
            states.push((self.stack.path(&whole, index), State { layer, file: Some(self.file_state(node)) }));
        }
        states.sort_by(|(one, _), (other, _)| compare_paths(one, other));
        states
    }

    fn file_state(&self, node: Node) -> FileState {
        let PathEntry { kind, facts, .. } = self.entry(LayerPath::root(), node, None);
        let inode = match node {
            Node::Leaf(inode) => Some(inode),
            Node::Directory { .. } => None,
        };
        let content = inode.and_then(|inode| self.content(inode));
        let device = |(major, minor)| format!("{major}, {minor}");
        let facts = facts.as_ref();
        let detail = facts.and_then(|facts| facts.target.clone().or(facts.device.map(device)));
        let xattrs = facts.map(|facts| &facts.xattrs).filter(|xattrs| !xattrs.is_empty());
        FileState {
            kind,
            mode: facts.map_or(0, |facts| facts.mode),
            uid: facts.map_or(0, |facts| facts.uid),
            gid: facts.map_or(0, |facts| facts.gid),
            mtime: facts.map_or(Timestamp::default(), |facts| facts.mtime),
            size: facts.map_or(0, |facts| facts.size),
            content: content.map(|(layer, id, _)| (layer, id)),
            detail: detail.map(String::into_boxed_str),
            inode: inode.filter(|&inode| self.stack.is_linked(inode)).map(InodeId::number),
            digest: content.and_then(|(_, _, known)| known.digest()),
            identity: content.map(|(_, _, known)| known.identity()),
            xattrs: xattrs.map_or(0, fingerprint),
        }
    }
}

/// Enough to see that extended attributes are others; never stored.
fn fingerprint(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish() | 1
}

/// By components, so that a directory's contents come right behind it.
fn compare_paths(one: &LayerPath, other: &LayerPath) -> Ordering {
    one.components().cmp(other.components())
}
