//! Checks the layers together: entries that cannot be unpacked, whiteouts that delete nothing, and links without a
//! target.

use super::layers::Examined;
use super::{Finding, Rule, exposed};
use crate::core::record::{Change, ChangeKind, Record};
use crate::core::stack::{Last, LookupError, Node, Problem, StackError, What};
use crate::core::text::counted;
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
    with_secrets: bool,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let unread: Vec<usize> =
        layers.iter().enumerate().filter(|(_, examined)| examined.record.is_none()).map(|(layer, _)| layer).collect();
    let mut indexes = Indexes::default();
    let mut secrets = Vec::new();
    for examined in layers {
        findings.extend(examined.findings);
        indexes.records.push(examined.record.unwrap_or_default());
        indexes.contents.push(examined.contents);
        secrets.push(examined.secrets);
    }
    // What is missing may be in a layer that could not be read.
    let is_certain = |layer: usize| unread.first().is_none_or(|&unread| layer < unread);
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
            let errors = counted(refused as u64, "error", "errors");
            let text = format!("after {errors}, this layer and those above were not checked further");
            findings.push(Finding::note(Rule::NotChecked, text).in_layer(error.layer));
            indexes.records.truncate(error.layer);
        }
        if is_certain(error.layer) || !matches!(error.problem, Problem::LinkTargetMissing(_)) {
            let finding = Finding::error(Rule::BadEntry, error.problem.to_string());
            findings.push(finding.in_layer(error.layer).at(error.path));
        }
    };
    findings.extend(idle.into_iter().filter(|finding| finding.layer.is_none_or(is_certain)));
    if with_secrets {
        findings.extend(exposed::secrets(&traced, &secrets));
    }
    if let Some(first) = unread.first() {
        let all: Vec<String> = unread.iter().map(usize::to_string).collect();
        let searched = match all.as_slice() {
            _ if !with_secrets => String::new(),
            [one] => format!("secrets in layer {one}, "),
            all => format!("secrets in layers {}, ", all.join(" and ")),
        };
        let text = format!(
            "{searched}links and whiteouts from layer {first} on, and the image's command, were not checked: layer {first} cannot be read to its end"
        );
        findings.push(Finding::note(Rule::NotChecked, text));
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
            idle.push(Finding::note(Rule::IdleWhiteout, text).in_layer(step.layer()).at(path));
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
            findings.push(Finding::note(Rule::DanglingLink, text).in_layer(layer).at(path));
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
        // What stands behind a blank is arguments in the wrong place, and there may be a secret in them.
        let name = program.split(char::is_whitespace).next().unwrap_or_default();
        let more = if name.len() < program.len() { "…" } else { "" };
        let text = format!("the image starts {name:?}{more}, which is not in the image");
        (!found).then(|| Finding::warning(Rule::Config, text))
    }
}
