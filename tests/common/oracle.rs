//! What a stack shows, by the specification and design.md's rules, worked out in the plainest way: paths in a map,
//! every step on whole paths. It shares no code and no idea with layflat's replay.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Attributes, Entry, Kind, Stack};
use super::tree::{Node, Shape, Tree};

/// A stack that must be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub &'static str);

type Path = Vec<Vec<u8>>;

#[derive(Clone, Debug)]
struct File {
    shape: Shape,
    attributes: Attributes,
    layer: usize,
}

#[derive(Clone, Default)]
struct State {
    files: Vec<File>,
    /// Every path, the root among them, and the file that is there.
    paths: BTreeMap<Path, usize>,
}

/// The stack without the entries that [`show`] refuses.
pub fn accepted(stack: Stack) -> Stack {
    let mut kept = Stack(Vec::new());
    for layer in stack.0 {
        kept.0.push(Vec::new());
        for entry in layer {
            let top = kept.0.len() - 1;
            kept.0[top].push(entry);
            if show(&kept).is_err() {
                kept.0[top].pop();
            }
        }
    }
    kept
}

pub fn show(stack: &Stack) -> Result<Tree, Refused> {
    let mut state = State::default();
    state.put(Vec::new(), Shape::Directory, Attributes::unnamed(), usize::MAX);
    for (index, layer) in stack.0.iter().enumerate() {
        state.layer(index, layer)?;
    }
    let mut tree = Tree::default();
    for (path, &file) in &state.paths {
        let File { shape, attributes, .. } = state.files[file].clone();
        let mut attributes = attributes;
        if matches!(shape, Shape::Symlink(_)) {
            attributes.mode = 0o777;
            // No file system takes those on symlinks.
            attributes.xattrs.retain(|name, _| !name.starts_with(b"user."));
        }
        if !matches!(shape, Shape::Directory | Shape::File(_)) {
            attributes.xattrs.retain(|name, _| !name.starts_with(b"user."));
        }
        tree.0.insert(path.join(&b'/'), Node { shape, attributes, first: file.to_string().into_bytes() });
    }
    tree.regroup();
    Ok(tree)
}

/// Rule N1.
fn normal(name: &[u8]) -> Result<Path, Refused> {
    let mut path = Path::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                path.pop().ok_or(Refused("climbs"))?;
            }
            _ if component.len() > 255 && !is_mark(component) => return Err(Refused("long")),
            _ => path.push(component.to_vec()),
        }
    }
    Ok(path)
}

/// The same for the target of a hard link: as under chroot, `..` at the root is the root.
fn under_root(name: &[u8]) -> Path {
    let mut path = Path::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            _ => path.push(component.to_vec()),
        }
    }
    path
}

fn is_mark(component: &[u8]) -> bool {
    component.starts_with(b".wh.")
}

impl State {
    fn put(&mut self, path: Path, shape: Shape, attributes: Attributes, layer: usize) {
        self.files.push(File { shape, attributes, layer });
        self.paths.insert(path, self.files.len() - 1);
    }

    fn file(&self, path: &Path) -> Option<&File> {
        self.paths.get(path).map(|&file| &self.files[file])
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.file(path).is_some_and(|file| file.shape == Shape::Directory)
    }

    fn remove(&mut self, path: &Path) {
        self.paths.retain(|other, _| !other.starts_with(path));
    }

    fn empty(&mut self, path: &Path) {
        self.paths.retain(|other, _| !other.starts_with(path) || other == path);
    }

    fn layer(&mut self, index: usize, layer: &[Entry]) -> Result<(), Refused> {
        let mut marks = Vec::new();
        let mut entries = Vec::new();
        for entry in layer {
            match Self::meaning(entry)? {
                Mark::None | Mark::LinkSource => entries.push((normal(&entry.name)?, entry)),
                Mark::Bookkeeping => {}
                mark => marks.extend(self.hidden(&mark)),
            }
        }
        // Whiteouts first, each in the tree below as it was (M1).
        for mark in self.effective(index, &marks, &entries) {
            mark.carry_out(self);
        }
        let mut plink: BTreeMap<Path, usize> = BTreeMap::new();
        for (path, entry) in entries {
            self.entry(index, path, entry, &mut plink)?;
        }
        Ok(())
    }

    /// What a mark hides if it is followed; nothing, if nothing is there.
    fn hidden(&self, mark: &Mark) -> Option<Hidden> {
        let mut links = Vec::new();
        let mut find = |path: &[Vec<u8>]| self.clone().walk(path, None, &mut links).ok().flatten();
        Some(match mark {
            Mark::Opaque(directory) => Hidden { place: find(directory)?, itself: false, links },
            Mark::Whiteout(path) => {
                let (last, parent) = path.split_last()?;
                Hidden { place: [find(parent)?, vec![last.clone()]].concat(), itself: true, links }
            }
            _ => return None,
        })
    }

    /// The whiteouts that hide something. A symlink of the tree below that the layer replaces or whites out is not
    /// followed (M1). Which ones those are is determined by the whiteouts that go through no symlink and from the
    /// entries, carried out as a trial; and a symlink that the other marks would hide is not followed either.
    fn effective<'m>(&self, index: usize, marks: &'m [Hidden], entries: &[(Path, &Entry)]) -> Vec<&'m Hidden> {
        if marks.iter().all(|mark| mark.links.is_empty()) {
            return marks.iter().collect();
        }
        let mut trial = self.clone();
        let mut replaced: BTreeSet<Path> = BTreeSet::new();
        let mut note = |trial: &Self| {
            for link in marks.iter().flat_map(|mark| &mark.links) {
                let other = |length: &usize| trial.paths.get(&link[..*length]) != self.paths.get(&link[..*length]);
                if (1..=link.len()).any(|length| other(&length)) {
                    replaced.insert(link.clone());
                }
            }
        };
        for mark in marks.iter().filter(|mark| mark.links.is_empty()) {
            mark.carry_out(&mut trial);
        }
        note(&trial);
        let mut plink = BTreeMap::new();
        for (path, entry) in entries {
            let _ = trial.entry(index, path.clone(), entry, &mut plink);
            note(&trial);
        }
        let followed: Vec<&Hidden> =
            marks.iter().filter(|mark| !mark.links.iter().any(|link| replaced.contains(link))).collect();
        let through: Vec<&Hidden> = followed.iter().copied().filter(|mark| !mark.links.is_empty()).collect();
        let is_hidden = |link: &Path| through.iter().any(|mark| mark.hides(link));
        followed.into_iter().filter(|mark| !mark.links.iter().any(is_hidden)).collect()
    }

    /// Rules M2 and M3: what an entry is for.
    fn meaning(entry: &Entry) -> Result<Mark, Refused> {
        let name = entry.name.as_slice();
        match entry.kind {
            Kind::Whiteout => {
                let (parent, last) = match name.iter().rposition(|&byte| byte == b'/') {
                    Some(slash) => (&name[..slash], &name[slash + 1..]),
                    None => (&b""[..], name),
                };
                if matches!(last, b"" | b"." | b"..") || last.len() > 255 {
                    return Err(Refused("malformed mark"));
                }
                let parent = normal(parent)?;
                if parent.iter().any(|component| is_mark(component)) {
                    return Err(Refused("mark in path"));
                }
                Ok(Mark::Whiteout([parent, vec![last.to_vec()]].concat()))
            }
            Kind::Opaque => Ok(Mark::Opaque(normal(name)?)),
            _ => Self::mark_of(&normal(name)?),
        }
    }

    /// Rule M3, for entries that are marks by their names alone.
    fn mark_of(path: &Path) -> Result<Mark, Refused> {
        let Some((last, parents)) = path.split_last() else {
            return Ok(Mark::None);
        };
        for component in parents {
            if component.as_slice() == b".wh..wh.plnk" {
                return Ok(if is_mark(last) { Mark::Bookkeeping } else { Mark::LinkSource });
            }
            if component.starts_with(b".wh..wh.") && component.as_slice() != b".wh..wh..opq" {
                return Ok(Mark::Bookkeeping);
            }
            if is_mark(component) {
                return Err(Refused("mark in path"));
            }
        }
        match last.as_slice() {
            b".wh." | b".wh.." | b".wh..." => Err(Refused("malformed mark")),
            b".wh..wh..opq" => Ok(Mark::Opaque(parents.to_vec())),
            last if last.starts_with(b".wh..wh.") => Ok(Mark::Bookkeeping),
            last if is_mark(last) => Ok(Mark::Whiteout([parents, &[last[4..].to_vec()]].concat())),
            _ => Ok(Mark::None),
        }
    }

    fn entry(
        &mut self,
        layer: usize,
        path: Path,
        entry: &Entry,
        plink: &mut BTreeMap<Path, usize>,
    ) -> Result<(), Refused> {
        let shape = match &entry.kind {
            Kind::Directory => Shape::Directory,
            Kind::File(content) => Shape::File(content.clone()),
            Kind::Symlink(target) if target.is_empty() => return Err(Refused("empty target")),
            Kind::Symlink(target) => Shape::Symlink(target.clone()),
            Kind::Character(major, minor) => Shape::Character(*major, *minor),
            Kind::Block(major, minor) => Shape::Block(*major, *minor),
            Kind::Fifo => Shape::Fifo,
            Kind::HardLink(target) => return self.link(layer, &path, target, plink),
            Kind::Whiteout | Kind::Opaque => return Ok(()),
        };
        let attributes = entry.attributes.clone();
        if path.first().is_some_and(|first| first == b".wh..wh.plnk")
            || path.iter().any(|component| component == b".wh..wh.plnk")
        {
            if matches!(shape, Shape::File(_)) {
                self.files.push(File { shape, attributes, layer });
                plink.insert(path, self.files.len() - 1);
            }
            return Ok(());
        }
        let Some((last, parent)) = path.split_last() else {
            if shape != Shape::Directory {
                return Err(Refused("root"));
            }
            let root = self.paths[&Path::new()];
            self.files[root].attributes = attributes;
            return Ok(());
        };
        let place = [self.make(&parent.to_vec(), layer)?, vec![last.clone()]].concat();
        if shape == Shape::Directory && self.is_directory(&place) {
            let directory = self.paths[&place];
            self.files[directory].attributes = attributes;
        } else {
            self.remove(&place);
            self.put(place, shape, attributes, layer);
        }
        Ok(())
    }

    fn link(&mut self, layer: usize, path: &Path, target: &[u8], plink: &BTreeMap<Path, usize>) -> Result<(), Refused> {
        if target.is_empty() {
            return Err(Refused("empty target"));
        }
        let target = under_root(target);
        match Self::mark_of(&target) {
            Ok(Mark::None | Mark::LinkSource) => {}
            _ => return Err(Refused("link to a mark")),
        }
        let Some((last, parent)) = path.split_last() else {
            return Err(Refused("root"));
        };
        // The parent of the name comes first: it may replace what the target goes through.
        let place = [self.make(&parent.to_vec(), layer)?, vec![last.clone()]].concat();
        if let Some(&file) = plink.get(&target) {
            self.remove(&place);
            self.paths.insert(place, file);
            return Ok(());
        }
        let Some((target_last, target_parent)) = target.split_last() else {
            return Err(Refused("link to a directory"));
        };
        let found = self.find(&target_parent.to_vec()).map(|parent| [parent, vec![target_last.clone()]].concat());
        let Some((source, &file)) = found.as_ref().and_then(|path| Some((path, self.paths.get(path)?))) else {
            return Err(Refused("no target"));
        };
        if self.files[file].shape == Shape::Directory {
            return Err(Refused("link to a directory"));
        }
        if self.paths.get(&place) == Some(&file) {
            return Ok(());
        }
        if source.starts_with(&place) {
            return Err(Refused("replaces its target"));
        }
        self.remove(&place);
        self.paths.insert(place, file);
        Ok(())
    }

    /// The directory that a path leads to, as under chroot; none if it does not exist.
    fn find(&self, path: &Path) -> Option<Path> {
        self.clone().walk(path, None, &mut Vec::new()).ok().flatten()
    }

    /// The same, and what is missing is made (N4, N5).
    fn make(&mut self, path: &Path, layer: usize) -> Result<Path, Refused> {
        self.walk(path, Some(layer), &mut Vec::new()).map(Option::unwrap_or_default)
    }

    /// `followed` gets the symlinks on the way.
    fn walk(
        &mut self,
        path: &[Vec<u8>],
        make: Option<usize>,
        followed: &mut Vec<Path>,
    ) -> Result<Option<Path>, Refused> {
        let mut rest: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        let mut here = Path::new();
        while let Some(component) = rest.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here.pop();
                    continue;
                }
                _ => {}
            }
            let next = [here.clone(), vec![component]].concat();
            match self.file(&next).cloned() {
                Some(File { shape: Shape::Directory, .. }) => here = next,
                Some(File { shape: Shape::Symlink(target), .. }) => {
                    followed.push(next);
                    if followed.len() > 40 {
                        return Err(Refused("too many links"));
                    }
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    rest.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
                other => {
                    let Some(layer) = make else {
                        return Ok(None);
                    };
                    if other.is_some_and(|file| file.layer == layer || !followed.is_empty()) {
                        return Err(Refused("parent is a file"));
                    }
                    self.remove(&next);
                    self.put(next.clone(), Shape::Directory, Attributes::unnamed(), layer);
                    here = next;
                }
            }
        }
        Ok(Some(here))
    }
}

/// What a mark hides.
struct Hidden {
    /// Where it leads.
    place: Path,
    /// Whether what is there goes, too, or only what is in it.
    itself: bool,
    /// The symlinks on the way.
    links: Vec<Path>,
}

impl Hidden {
    fn carry_out(&self, state: &mut State) {
        if self.itself { state.remove(&self.place) } else { state.empty(&self.place) }
    }

    fn hides(&self, path: &Path) -> bool {
        path.starts_with(&self.place) && (self.itself || *path != self.place)
    }
}

enum Mark {
    None,
    Whiteout(Path),
    Opaque(Path),
    Bookkeeping,
    LinkSource,
}
