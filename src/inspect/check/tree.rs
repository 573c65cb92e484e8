//! Checks the layers together: entries that cannot be unpacked, whiteouts that delete nothing, links without a target,
//! and secrets that a later layer deletes but the image still ships.

use hashbrown::{HashMap, HashSet};

use super::layers::Examined;
use super::{Finding, FindingKind, secrets};
use crate::core::record::{Change, ChangeKind, LayerPath, Record};
use crate::core::stack::{InodeId, Last, LookupError, Node, Problem, StackError, What};
use crate::image::Image;
use crate::inspect::index::Indexes;
use crate::inspect::{Inside, Traced};
use crate::unpack::{Error, Options};

/// Directories that are mounted over when a container runs: what a link has there shows only then.
const MOUNTED: [&[u8]; 4] = [b"proc", b"sys", b"dev", b"run"];

/// Entries that do not fit, up to which each is named: every one takes another replay.
const MOST_REFUSED: usize = 100;

/// Checks what the layers show together, past what does not fit: an entry that cannot be carried out is named and left
/// out, and a layer that cannot be read counts as empty.
///
/// # Errors
/// The work was cancelled.
pub(super) fn check(
    image: &Image,
    layers: Vec<Examined>,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let unread = layers.iter().position(|examined| examined.record.is_none());
    let mut indexes = Indexes::default();
    for examined in layers {
        findings.extend(examined.findings);
        indexes.records.push(examined.record.unwrap_or_default());
        indexes.contents.push(examined.contents);
    }
    // What is missing may be in a layer that could not be read.
    let is_certain = |layer: usize| unread.is_none_or(|unread| layer < unread);
    let mut refused = 0;
    let (traced, idle) = loop {
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let error = match replay(image, &indexes, options) {
            Ok(replayed) => break replayed,
            Err(error) => error,
        };
        refused += 1;
        // Those concern the whole, and not this entry.
        let is_of_entry = !matches!(error.problem, Problem::Limit { .. } | Problem::TooManyNames);
        let left_out = is_of_entry && refused < MOST_REFUSED && leave_out(&mut indexes.records[error.layer], &error);
        if !left_out {
            let text = format!("after {refused} errors, this layer and those above were not checked further");
            findings.push(Finding::note(FindingKind::NotChecked, text).in_layer(error.layer));
            indexes.records.truncate(error.layer);
        }
        if is_certain(error.layer) || !matches!(error.problem, Problem::LinkTargetMissing(_)) {
            let finding = Finding::error(FindingKind::BadEntry, error.problem.to_string());
            findings.push(finding.in_layer(error.layer).at(error.path));
        }
    };
    findings.extend(idle.into_iter().filter(|finding| finding.layer.is_none_or(is_certain)));
    findings.extend(traced.hidden_secrets());
    if let Some(unread) = unread {
        let text = format!(
            "links and whiteouts from layer {unread} on, and the image's command, were not checked: layer {unread} cannot be read to its end"
        );
        findings.push(Finding::note(FindingKind::NotChecked, text));
    } else if refused < MOST_REFUSED {
        findings.extend(traced.inside.dangling_links());
        findings.extend(traced.inside.command());
    }
    Ok(())
}

/// Takes the entry out of a layer that cannot be carried out; `false` if it is not to be found.
fn leave_out(record: &mut Record, error: &StackError) -> bool {
    let names = &record.names;
    let count = record.changes.len();
    let is_mark = |change: &Change| matches!(change.kind, ChangeKind::Whiteout | ChangeKind::Opaque);
    let target = match &error.problem {
        Problem::LinkTargetMissing(target) | Problem::LinkToDirectory(target) | Problem::LinkReplacesTarget(target) => {
            Some(target)
        }
        _ => None,
    };
    record.changes.retain(|change| {
        let is_it = match (&change.kind, target) {
            (ChangeKind::HardLink { target: to }, Some(target)) => names.path(*to) == *target,
            (_, target) => target.is_none() && !is_mark(change),
        };
        !(is_it && names.path(change.name) == error.path)
    });
    record.changes.len() < count
}

/// Replays the layers, and notes the whiteouts that delete nothing.
fn replay<'a>(
    image: &'a Image,
    indexes: &'a Indexes,
    options: &Options,
) -> Result<(Traced<'a>, Vec<Finding>), StackError> {
    let mut idle = Vec::new();
    let traced = Traced::watched(image, indexes, options, &mut |step| {
        let record = &indexes.records[step.layer()];
        for &mark in step.idle_whiteouts() {
            let change = &record.changes[mark];
            let text = match change.kind {
                ChangeKind::Opaque => "an opaque directory with nothing below",
                _ => "a whiteout that deletes nothing: no lower layer has the name",
            };
            let path = record.names.path(change.name);
            idle.push(Finding::note(FindingKind::IdleWhiteout, text).in_layer(step.layer()).at(path));
        }
    })?;
    Ok((traced, idle))
}

impl Inside<'_> {
    /// Symlinks that lead to nothing in the image; what is only there when it runs is left out.
    fn dangling_links(&self) -> Vec<Finding> {
        let whole = self.stack.whole();
        let mut findings = Vec::new();
        for (index, entry) in whole.entries().iter().enumerate() {
            let What::Leaf(inode) = entry.what else { continue };
            let (layer, change) = self.stack.origin(inode);
            let ChangeKind::Symlink { target, .. } = &change.kind else { continue };
            let path = self.stack.path(&whole, index);
            let Err(error) = self.stack.resolve(path.as_bytes(), Last::Follow) else { continue };
            if let LookupError::Missing(missing) | LookupError::NotADirectory(missing) = &error
                && missing.components().next().is_some_and(|first| MOUNTED.contains(&first))
            {
                continue;
            }
            let text = format!("points to {}, which does not exist: {error}", crate::core::text::Printable(target));
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
        let text = format!("the image starts {program:?}, which is not in the image");
        (!found).then(|| Finding::warning(FindingKind::Config, text))
    }
}

impl Traced<'_> {
    /// Files that look like secrets, are shown no more, and are still shipped.
    fn hidden_secrets(&self) -> Vec<Finding> {
        let visible = self.inside.visible();
        let identity = |inode| self.inside.content(inode).map(|(_, _, content)| content.identity());
        let shown: HashSet<[u8; 32]> = visible.keys().filter_map(|&inode| identity(inode)).collect();
        let mut lost: HashMap<InodeId, Vec<(LayerPath, usize)>> = HashMap::new();
        for event in &self.events {
            if let Some(inode) = event.lost() {
                lost.entry(inode).or_default().push((self.inside.stack.place(event), event.layer));
            }
        }
        for names in lost.values_mut() {
            names.sort_by(|(one, by), (other, after)| (by, one).cmp(&(after, other)));
        }
        for (inode, hit) in self.overwritten() {
            lost.entry(inode).or_default().push((hit.entry.path, hit.in_layer));
        }
        let mut findings = Vec::new();
        for (inode, names) in lost {
            let Some((layer, _, content)) = self.inside.content(inode) else { continue };
            if visible.contains_key(&inode) || content.stored == 0 || shown.contains(&content.identity()) {
                continue;
            }
            let named = names.iter().find_map(|(path, by)| secrets::by_name(path).map(|what| (path, by, what)));
            let key = || names.last().filter(|_| content.private_key).map(|(path, by)| (path, by, "a private key"));
            if let Some((path, by, what)) = named.or_else(key) {
                let text = format!("most likely holds {what}; deleted by layer {by}, but still in this layer");
                findings.push(Finding::warning(FindingKind::HiddenSecret, text).in_layer(layer).at(path.clone()));
            }
        }
        findings
    }
}
