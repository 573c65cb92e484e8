//! What a stack shows, by layflat's answers about it: nothing is unpacked.

use std::collections::{BTreeMap, HashMap};

use layflat::core::chain::Chain;
use layflat::image::Image;
use layflat::inspect::{Action, Change, Fate, Inside, ListOptions, PathKind, Pattern, Timeline, Traced, history};
use layflat::{NoProgress, Options};

use super::oracle;
use super::text::{Attributes, Layer as TextLayer, Stack};
use super::tree::{Node, Shape, Tree};
use super::{run, tar};

/// The tree as `ls -R` and `cat` give it; `find` and `log` are held against it.
pub fn tree(stack: &Stack) -> Result<Tree, String> {
    let image = run::image(stack.0.iter().map(|layer: &TextLayer| tar::archive(layer)));
    let options = Options::default();
    let indexes = layflat::inspect::index::indexes(&image, None, &options, &NoProgress)
        .map_err(|error| Chain(&error).to_string())?;
    let inside = Inside::new(&image, &indexes, &options).map_err(|error| Chain(&error).to_string())?;
    let list = |options| inside.list(b"/", options).unwrap().entries;
    let mut entries = list(ListOptions { itself: true, ..ListOptions::default() });
    entries.extend(list(ListOptions { recursive: true, ..ListOptions::default() }));

    let mut tree = Tree::default();
    let mut names: HashMap<u32, u32> = HashMap::new();
    let mut links = Vec::new();
    for entry in entries {
        let facts = entry.facts.unwrap();
        let path = entry.path.as_bytes().to_vec();
        let shape = match entry.kind {
            PathKind::Directory => Shape::Directory,
            PathKind::Symlink => Shape::Symlink(bytes(facts.target.as_ref().unwrap())),
            PathKind::Fifo => Shape::Fifo,
            PathKind::CharacterDevice => Shape::Character(facts.device.unwrap().0, facts.device.unwrap().1),
            PathKind::BlockDevice => Shape::Block(facts.device.unwrap().0, facts.device.unwrap().1),
            PathKind::Whiteout => panic!("{} is shown", entry.path),
            PathKind::File => {
                let mut content = Vec::new();
                inside.cat(&path, &mut content, &options).unwrap();
                assert_eq!(facts.size, content.len() as u64, "{}", entry.path);
                Shape::File(content)
            }
        };
        let mut xattrs: BTreeMap<Vec<u8>, Vec<u8>> =
            facts.xattrs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        if !matches!(shape, Shape::Directory | Shape::File(_)) {
            // No file system takes those there.
            xattrs.retain(|name, _| !name.starts_with(b"user."));
        }
        let attributes = Attributes {
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            mtime: (facts.mtime.seconds, facts.mtime.nanoseconds),
            xattrs,
        };
        let first = facts.inode.map_or(path.clone(), |inode| inode.to_string().into_bytes());
        if let Some(inode) = facts.inode {
            *names.entry(inode).or_default() += 1;
            links.push((inode, entry.links.unwrap()));
        }
        tree.0.insert(path, Node { shape, attributes, first });
    }
    for (inode, count) in links {
        assert_eq!(names[&inode], count, "the number of names of inode {inode}");
    }
    tree.regroup();
    let traced = Traced::new(&image, &indexes, &options).unwrap();
    found(stack, &traced, &tree);
    every_layer(stack, &Timeline::of(&traced));
    let both = Timeline::between(&inside, &inside, &|_| false);
    assert!(both.paths().skip(1).all(|path| both.change(path, Some(0), 1) == Change::Same));
    told(&image, &indexes, &tree);
    Ok(tree)
}

/// The bytes that are shown as this text.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        let letter = escape.chars().next().unwrap();
        let (byte, after) = match letter {
            'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), &escape[3..]),
            'u' => {
                let (number, after) = escape[2..].split_once('}').unwrap();
                (u8::from_str_radix(number, 16).unwrap(), after)
            }
            'n' => (b'\n', &escape[1..]),
            't' => (b'\t', &escape[1..]),
            'r' => (b'\r', &escape[1..]),
            _ => (b'\\', &escape[1..]),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes.extend(rest.bytes());
    bytes
}

/// `find` has every path that is shown, once; and of all layers' paths what becomes of them, as the trees of the lower
/// layers show.
fn found(stack: &Stack, traced: &Traced<'_>, tree: &Tree) {
    let all = Pattern::globs(["*"]).unwrap();
    let visible: Vec<Vec<u8>> = traced.find(&all, false).iter().map(|hit| hit.entry.path.as_bytes().to_vec()).collect();
    let expected: Vec<Vec<u8>> = tree.0.keys().filter(|path| !path.is_empty()).cloned().collect();
    assert_eq!(visible, expected);
    let shown: Vec<Tree> =
        (0..=stack.0.len()).map(|count| oracle::show(&Stack(stack.0[..count].to_vec())).unwrap()).collect();
    for hit in traced.find(&all, true) {
        let has = |layers: usize| shown[layers].0.contains_key(hit.entry.path.as_bytes());
        match hit.fate {
            Fate::Replaced { by } => assert!(hit.in_layer < by && has(by) && has(by + 1), "{hit:?}"),
            Fate::Hidden { by } => assert!(hit.in_layer < by && has(by) && !has(by + 1), "{hit:?}"),
            Fate::Visible => assert!(has(stack.0.len()) && has(hit.in_layer + 1), "{hit:?}"),
            Fate::Overwritten => {}
        }
    }
}

/// `log` ends with what is there.
fn told(image: &Image, indexes: &layflat::inspect::index::Indexes, tree: &Tree) {
    for (path, node) in tree.0.iter().filter(|(path, _)| !path.is_empty()) {
        let events = history(path, image, indexes, &Options::default()).unwrap();
        assert_eq!(events[0].action, Action::Added);
        let now = events.last().unwrap().now.as_ref().unwrap();
        assert_eq!(now.path.as_bytes(), path);
        let facts = now.facts.as_ref().unwrap();
        assert_eq!((facts.mode, facts.uid), (node.attributes.mode, node.attributes.uid), "{}", now.path);
    }
}

/// A timeline has, at every layer, what the layers up to it show, and tells how each differs from the one below.
fn every_layer(stack: &Stack, timeline: &Timeline) {
    let mut before = Tree::default();
    for layer in 0..stack.0.len() {
        let tree = oracle::show(&Stack(stack.0[..=layer].to_vec())).unwrap();
        for path in timeline.paths().skip(1) {
            let name = timeline.path(path);
            let (was, is) = (before.0.get(name.as_bytes()), tree.0.get(name.as_bytes()));
            let now = timeline.at(path, Some(layer));
            assert_eq!(now.is_some(), is.is_some(), "layer {layer}: {name}");
            if let (Some(now), Some(is)) = (now, is) {
                assert_eq!((now.mode, now.uid), (is.attributes.mode, is.attributes.uid), "layer {layer}: {name}");
            }
            let change = timeline.change(path, layer.checked_sub(1), layer);
            let expected = match (was, is) {
                (None, None) => Change::Absent,
                (None, Some(_)) => Change::Added,
                (Some(_), None) => Change::Deleted,
                (Some(was), Some(is)) if was.attributes == is.attributes && was.shape == is.shape => Change::Same,
                _ => Change::Changed,
            };
            assert_eq!(change, expected, "layer {layer}: {name}");
            assert_eq!(timeline.find(&name), Some(path));
        }
        let known = timeline.paths().skip(1).filter(|&path| timeline.at(path, Some(layer)).is_some()).count();
        assert_eq!(known, tree.0.keys().filter(|path| !path.is_empty()).count(), "layer {layer}");
        before = tree;
    }
}
