//! Secrets in files: in those that the image shows, and in those that a later layer deletes but the image still ships.

use hashbrown::{HashMap, HashSet};

use super::secrets::{Found, Scanned, SecretKind, by_name};
use super::{Finding, Rule, Severity};
use crate::core::record::{ContentId, LayerPath};
use crate::core::stack::InodeId;
use crate::inspect::Traced;

/// Directories of what is published anyway: keys in tests and examples protect nothing.
const SAMPLES: [&[u8]; 14] = [
    b"doc",
    b"docs",
    b"example",
    b"examples",
    b"fixtures",
    b"man",
    b"sample",
    b"samples",
    b"spec",
    b"test",
    b"test_data",
    b"testdata",
    b"testing",
    b"tests",
];

/// What files hold that nobody should read, by the layer that ships them. `scanned` is what was found in the contents of
/// each layer's files.
pub(super) fn secrets(traced: &Traced<'_>, scanned: &[Scanned]) -> Vec<Finding> {
    let shipped = Shipped { traced, scanned };
    let visible = traced.inside.visible();
    let identity = |inode| traced.inside.content(inode).map(|(_, _, content)| content.identity());
    let shown: HashSet<[u8; 32]> = visible.keys().filter_map(|&inode| identity(inode)).collect();
    let mut findings = Vec::new();
    for (&inode, names) in &visible {
        findings.extend(shipped.visible(inode, names));
    }
    for (inode, names) in shipped.lost() {
        // What the image shows elsewhere is not hidden.
        if !visible.contains_key(&inode) && !identity(inode).is_some_and(|identity| shown.contains(&identity)) {
            findings.extend(shipped.hidden(inode, &names));
        }
    }
    findings
}

struct Shipped<'a> {
    traced: &'a Traced<'a>,
    scanned: &'a [Scanned],
}

impl Shipped<'_> {
    /// Files that are shown no more: their names, each with the layer that took it away.
    fn lost(&self) -> HashMap<InodeId, Vec<(LayerPath, usize)>> {
        let mut lost: HashMap<InodeId, Vec<(LayerPath, usize)>> = HashMap::new();
        for event in &self.traced.events {
            if let Some(inode) = event.lost() {
                lost.entry(inode).or_default().push((self.traced.inside.stack.place(event), event.layer));
            }
        }
        for names in lost.values_mut() {
            names.sort_by(|(one, by), (other, after)| (by, one).cmp(&(after, other)));
        }
        for (inode, hit) in self.traced.overwritten() {
            lost.entry(inode).or_default().push((hit.entry.path, hit.in_layer));
        }
        lost
    }

    /// The layer that ships a file, its content there, and what was found in it.
    fn found(&self, inode: InodeId) -> Option<(usize, ContentId, &[Found])> {
        let (layer, id, content) = self.traced.inside.content(inode)?;
        let found = self.scanned.get(layer).map_or(&[][..], |scanned| scanned.found(id));
        (content.stored > 0).then_some((layer, id, found))
    }

    /// What a file holds that the image shows. A name alone is enough where the content does not speak against it.
    fn visible(&self, inode: InodeId, names: &[LayerPath]) -> Vec<Finding> {
        let Some((layer, id, found)) = self.found(inode) else { return Vec::new() };
        let Some(first) = names.first() else { return Vec::new() };
        let finding = |path: &LayerPath, severity: Severity, kind: SecretKind, what: &str| Finding {
            secret: Some(kind),
            ..Finding::new(severity.max(mildest(path)), Rule::VisibleSecret, format!("holds {what}"))
                .in_layer(layer)
                .at(path.clone())
        };
        let named = names.iter().find_map(|path| by_name(path).map(|kind| (path, kind)));
        let is_empty = self.scanned.get(layer).is_some_and(|scanned| scanned.is_empty(id));
        let of_name = named
            .filter(|(_, kind)| !is_empty && are_milder(found, *kind))
            .map(|(path, kind)| finding(path, kind.severity(), kind, &format!("{}, by its name", kind.what())));
        let of_content = |found: &Found| Finding {
            line: Some(found.line),
            ..finding(first, found.severity, found.kind, &found.what())
        };
        of_name.into_iter().chain(found.iter().map(of_content)).collect()
    }

    /// What a file holds that the image only ships. Who deleted it had a reason to, so its name is enough.
    fn hidden(&self, inode: InodeId, names: &[(LayerPath, usize)]) -> Vec<Finding> {
        let Some((layer, _, found)) = self.found(inode) else { return Vec::new() };
        let finding = |path: &LayerPath, by: &usize, severity: Severity, kind: SecretKind, what: &str| {
            let text = format!("most likely holds {what}; deleted by layer {by}, but still in this layer");
            let finding = Finding::new(severity.max(mildest(path)), Rule::HiddenSecret, text);
            Finding { secret: Some(kind), ..finding.in_layer(layer).at(path.clone()) }
        };
        let named = names.iter().find_map(|(path, by)| by_name(path).map(|kind| (path, by, kind)));
        let place = named.map(|(path, by, _)| (path, by)).or_else(|| names.last().map(|(path, by)| (path, by)));
        let Some((path, by)) = place else { return Vec::new() };
        let of_name = named
            .filter(|(_, _, kind)| are_milder(found, *kind))
            .map(|(path, by, kind)| finding(path, by, kind.severity(), kind, kind.what()));
        let of_content = |found: &Found| Finding {
            line: Some(found.line),
            ..finding(path, by, found.severity, found.kind, &found.what())
        };
        of_name.into_iter().chain(found.iter().map(of_content)).collect()
    }
}

/// Whether all that was found in a file weighs less than what its name says, and so does not stand for it.
fn are_milder(found: &[Found], kind: SecretKind) -> bool {
    found.iter().all(|found| found.severity > kind.severity())
}

/// How bad a secret there is at most.
fn mildest(path: &LayerPath) -> Severity {
    let is_sample = path.components().any(|component| SAMPLES.contains(&component));
    if is_sample { Severity::Note } else { Severity::Error }
}
