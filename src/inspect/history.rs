//! The history of one path: what each layer did to it, and the build command of that layer.

use serde::Serialize;

use super::entry::{PathEntry, PathKind};
use super::{Inside, InsideError, reading};
use crate::core::record::LayerPath;
use crate::core::stack::{Last, Node, Resolved, Stack};
use crate::image::Image;
use crate::inspect::index::Indexes;
use crate::unpack::{Error, Options};

/// What a layer did to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathEvent {
    /// The layer, from 0 at the bottom.
    pub layer: usize,
    /// What it did.
    #[serde(rename = "deed")]
    pub action: Action,
    /// What differs, where the same thing is still there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Alteration>,
    /// What is there now, under the name that it has once symlinked parents are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<PathEntry>,
    /// The history's line for the layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// How a layer changed a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing was there.
    Added,
    /// Something else was there.
    Replaced,
    /// The same directory, or a file of the same content, was there with other attributes.
    Metadata,
    /// It is gone.
    Hidden,
}

/// One attribute that is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alteration {
    /// Which.
    pub what: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub now: String,
}

/// What each layer did to a path; layers that did nothing to it are left out.
///
/// The path is followed in what the layers up to each one show, so that a symlink on the way leads where it led then
/// (rule N4).
///
/// # Errors
/// No layer has ever had the path, or the layers do not fit on one another.
pub fn history(
    path: &[u8],
    image: &Image,
    indexes: &Indexes,
    options: &Options,
) -> Result<Vec<PathEvent>, InsideError> {
    let mut found: Vec<Option<Resolved>> = Vec::new();
    let stack = Stack::replay_watched(&indexes.records, reading(options), &mut |step| {
        found.push(step.resolve(path, Last::Keep).ok());
    })
    .map_err(Error::from)?;
    let inside = Inside { image, indexes, stack };
    let created_by = image.created_by();
    let mut events = Vec::new();
    let mut before: Option<Resolved> = None;
    for (layer, now) in found.into_iter().enumerate() {
        if let Some((action, differences)) = inside.action(before.as_ref(), now.as_ref()) {
            let created_by = created_by.get(layer).cloned().flatten();
            let now = now.as_ref().map(|now| inside.entry(now.path.clone(), now.node, None));
            events.push(PathEvent { layer, action, differences, now, created_by });
        }
        before = now;
    }
    // The root is always there, though no layer may name it.
    let is_root = LayerPath::normalise(path).is_ok_and(|path| path.is_root());
    if events.is_empty() && !is_root { Err(InsideError::NeverThere(path.to_vec())) } else { Ok(events) }
}

impl Inside<'_> {
    fn action(&self, before: Option<&Resolved>, now: Option<&Resolved>) -> Option<(Action, Vec<Alteration>)> {
        let (before, now) = match (before, now) {
            (None, None) => return None,
            // The root is there before any layer.
            (None, Some(now)) if now.path.is_root() && is_unnamed(now.node) => return None,
            (None, Some(_)) => return Some((Action::Added, Vec::new())),
            (Some(_), None) => return Some((Action::Hidden, Vec::new())),
            (Some(before), Some(now)) if before.node == now.node => return None,
            (Some(before), Some(now)) => (before, now),
        };
        let entry = |found: &Resolved| self.entry(found.path.clone(), found.node, None);
        let same_directory = matches!(
            (before.node, now.node),
            (Node::Directory { id: one, .. }, Node::Directory { id: other, .. }) if one == other
        );
        let (one, other) = (entry(before), entry(now));
        if same_directory {
            let differences = differences(&one, &other);
            // The same entry again, as layers repeat the directories on the way to what they change.
            return (!differences.is_empty()).then_some((Action::Metadata, differences));
        }
        let same_content = one.kind == other.kind
            && one.kind != PathKind::Directory
            && self.content_of(before.node) == self.content_of(now.node)
            && one
                .facts
                .as_ref()
                .zip(other.facts.as_ref())
                .is_some_and(|(one, other)| (&one.target, one.device) == (&other.target, other.device));
        if same_content {
            return Some((Action::Metadata, differences(&one, &other)));
        }
        Some((Action::Replaced, Vec::new()))
    }
}

impl Inside<'_> {
    /// What a regular file's content is known by.
    fn content_of(&self, node: Node) -> Option<[u8; 32]> {
        match node {
            Node::Leaf(inode) => self.content(inode).map(|(_, _, content)| content.identity()),
            Node::Directory { .. } => None,
        }
    }
}

fn is_unnamed(node: Node) -> bool {
    matches!(node, Node::Directory { attributes, .. } if attributes.layer().is_none())
}

fn differences(before: &PathEntry, now: &PathEntry) -> Vec<Alteration> {
    let mut list = Vec::new();
    let mut compare = |what: &str, before: String, now: String| {
        if before != now {
            list.push(Alteration { what: what.to_owned(), before, now });
        }
    };
    if let (Some(before), Some(now)) = (&before.facts, &now.facts) {
        compare("mode", format!("{:04o}", before.mode), format!("{:04o}", now.mode));
        compare("owner", format!("{}:{}", before.uid, before.gid), format!("{}:{}", now.uid, now.gid));
        compare("mtime", before.mtime.to_string(), now.mtime.to_string());
        let names: std::collections::BTreeSet<&String> = before.xattrs.keys().chain(now.xattrs.keys()).collect();
        for name in names {
            let value = |xattrs: &std::collections::BTreeMap<String, String>| {
                xattrs.get(name).map_or("none".to_owned(), |value| format!("\"{value}\""))
            };
            compare(name, value(&before.xattrs), value(&now.xattrs));
        }
    }
    list
}
