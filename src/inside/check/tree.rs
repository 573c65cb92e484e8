//! What the layers show together: entries that cannot be carried out, marks that hide nothing, links that lead nowhere, secrets that are only
//! hidden.

use hashbrown::{HashMap, HashSet};

use super::layers::Examined;
use super::{Finding, FindingKind, secrets};
use crate::image::Image;
use crate::index::Indexes;
use crate::inside::{Inside, Traced};
use crate::layer::{ChangeKind, LayerPath};
use crate::options::Options;
use crate::stack::{InodeId, Last, LookupError, Node, StackError, What};

/// Directories that are mounted over when a container runs: what a link has there shows only then.
const MOUNTED: [&[u8]; 4] = [b"proc", b"sys", b"dev", b"run"];

/// Checks as many layers from the bottom as can be stacked.
pub(super) fn check(image: &Image, layers: Vec<Examined>, options: &Options, findings: &mut Vec<Finding>) {
    let count = layers.len();
    let mut indexes = Indexes::default();
    let mut complete = true;
    for examined in layers {
        findings.extend(examined.findings);
        match examined.record.filter(|_| complete) {
            Some(record) => {
                indexes.records.push(record);
                indexes.contents.push(examined.contents);
            }
            None => complete = false,
        }
    }
    let (traced, idle) = loop {
        match replay(image, &indexes, options) {
            Ok(replayed) => break replayed,
            Err(error) => {
                findings.push(
                    Finding::error(FindingKind::BadEntry, error.problem.to_string())
                        .in_layer(error.layer)
                        .at(error.path),
                );
                indexes.records.truncate(error.layer);
            }
        }
    };
    let stacked = indexes.records.len();
    findings.extend(idle);
    findings.extend(traced.hidden_secrets());
    if stacked == count {
        findings.extend(traced.inside.dangling_links());
        findings.extend(traced.inside.command());
    } else {
        let text = match stacked {
            0 => "what the layers show together was not checked, since the lowest cannot be read as it is".to_owned(),
            _ => format!(
                "what the layers show together was only checked up to layer {}, since the next cannot be laid on it as it is",
                stacked - 1
            ),
        };
        findings.push(Finding::note(FindingKind::NotChecked, text));
    }
}

/// Replays the layers, and notes the marks that hide nothing.
fn replay<'a>(
    image: &'a Image,
    indexes: &'a Indexes,
    options: &Options,
) -> Result<(Traced<'a>, Vec<Finding>), StackError> {
    let mut idle = Vec::new();
    let traced = Traced::watched(image, indexes, options, &mut |step| {
        let record = &indexes.records[step.layer()];
        for &mark in step.idle_marks() {
            let change = &record.changes[mark];
            let text = match change.kind {
                ChangeKind::Opaque => "an opaque mark on a directory that has nothing below",
                _ => "a whiteout for something that is not there below",
            };
            let path = record.names.path(change.name);
            idle.push(Finding::note(FindingKind::IdleMark, text).in_layer(step.layer()).at(path));
        }
    })?;
    Ok((traced, idle))
}

impl Inside<'_> {
    /// Symlinks that lead to nothing in the image; what is only there when it runs is left out.
    fn dangling_links(&self) -> Vec<Finding> {
        let whole = self.stack.whole();
        let mut findings = Vec::new();
        for (index, emission) in whole.emissions().iter().enumerate() {
            let What::Leaf(inode) = emission.what else { continue };
            let (layer, change) = self.stack.origin(inode);
            let ChangeKind::Symlink { target, .. } = &change.kind else { continue };
            let path = self.stack.path(&whole, index);
            let Err(error) = self.stack.resolve(path.as_bytes(), Last::Follow) else { continue };
            if let LookupError::Missing(missing) | LookupError::NotADirectory(missing) = &error
                && missing.components().next().is_some_and(|first| MOUNTED.contains(&first))
            {
                continue;
            }
            let text = format!("leads to {}, which leads nowhere: {error}", crate::layer::Printable(target));
            findings.push(Finding::note(FindingKind::DanglingLink, text).in_layer(layer).at(path));
        }
        findings
    }

    /// The program that the image starts, if it is not there.
    fn command(&self) -> Option<Finding> {
        let config = &self.image.config.as_ref()?.parsed.config;
        let program = config.entrypoint.first().or(config.cmd.first())?;
        let directory = &config.working_dir;
        let there = |path: String| {
            self.stack.resolve(path.as_bytes(), Last::Follow).is_ok_and(|found| matches!(found.node, Node::Leaf(_)))
        };
        let found = if program.contains('/') {
            there(if program.starts_with('/') { program.clone() } else { format!("{directory}/{program}") })
        } else {
            let path = config.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
            let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
            path.split(':').any(|directory| there(format!("{directory}/{program}")))
        };
        let text = format!("the image starts {program:?}, which it does not hold");
        (!found).then(|| Finding::warning(FindingKind::Config, text))
    }
}

impl Traced<'_> {
    /// Files that look like secrets, are shown no more, and are still shipped.
    fn hidden_secrets(&self) -> Vec<Finding> {
        let visible = self.inside.visible();
        let digest = |inode| self.inside.content(inode).map(|(_, _, content)| content.sha256());
        let shown: HashSet<[u8; 32]> = visible.keys().filter_map(|&inode| digest(inode)).collect();
        let mut lost: HashMap<InodeId, Vec<(LayerPath, usize)>> = HashMap::new();
        for event in &self.events {
            if let Some(inode) = event.lost() {
                lost.entry(inode).or_default().push((event.path.clone(), event.layer));
            }
        }
        for (inode, hit) in self.overwritten() {
            lost.entry(inode).or_default().push((hit.entry.path, hit.in_layer));
        }
        let mut findings = Vec::new();
        for (inode, names) in lost {
            let Some((layer, _, content)) = self.inside.content(inode) else { continue };
            if visible.contains_key(&inode) || content.stored == 0 || shown.contains(&content.sha256()) {
                continue;
            }
            let named = names.iter().find_map(|(path, by)| secrets::by_name(path).map(|what| (path, by, what)));
            let key = || names.last().filter(|_| content.private_key).map(|(path, by)| (path, by, "a private key"));
            if let Some((path, by, what)) = named.or_else(key) {
                let text = format!("most likely holds {what}; layer {by} takes it away, but this layer still ships it");
                findings.push(Finding::warning(FindingKind::HiddenSecret, text).in_layer(layer).at(path.clone()));
            }
        }
        findings
    }
}
