//! What a report is about, as plain data: the pages only arrange it.

use std::collections::BTreeMap;

use layflat::compare::{StatisticsRow, Tally};
use layflat::core::text::Printable;
use layflat::image::Image;
use layflat::inspect::check::{CheckOptions, Finding, check};
use layflat::inspect::{Change, PathId, PathKind, Reason, Timeline, Traced, Waste, WastedDirectory};
use serde::Serialize;

use super::super::arguments::{Common, Looked};
use super::super::diff::Compared;
use super::super::gate::{Ignore, Settings};
use super::super::progress;
use super::packages::{PackageChange, changes};
use super::verdict::{Verdict, of_findings, of_waste};

/// Everything that a report shows.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    pub(super) images: Vec<ImageFacts>,
    pub(super) verdicts: Vec<Verdict>,
    /// Of the image that the report is about: the second one, if there are two.
    pub(super) layers: Vec<LayerFacts>,
    pub(super) files: Files,
    pub(super) waste: Vec<WasteLine>,
    pub(super) advice: Vec<Advice>,
    pub(super) findings: Vec<FindingLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comparison: Option<Comparison>,
}

#[derive(Debug, Serialize)]
pub(super) struct ImageFacts {
    pub(super) name: String,
    pub(super) digest: Option<String>,
    pub(super) platform: String,
    pub(super) created: String,
    pub(super) layers: usize,
    /// Bytes of all layers as they are stored.
    pub(super) stored: u64,
    /// Bytes of content.
    pub(super) size: u64,
    pub(super) wasted: u64,
    pub(super) files: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LayerFacts {
    pub(super) words: String,
    pub(super) stored: u64,
    pub(super) size: u64,
    pub(super) replaced: u64,
    pub(super) deleted: u64,
    pub(super) duplicated: u64,
    pub(super) added: u64,
    pub(super) changed: u64,
    pub(super) removed: u64,
}

impl LayerFacts {
    pub(super) fn wasted(&self) -> u64 {
        self.replaced + self.deleted + self.duplicated
    }
}

/// All paths that any layer has, as columns: a page of this kind is most of a report.
#[derive(Debug, Default, Serialize)]
pub(super) struct Files {
    names: Vec<String>,
    /// The number of the directory that holds it; the root, which is number 0, is in itself.
    parents: Vec<u32>,
    /// Bytes of what is there at last, and below.
    sizes: Vec<u64>,
    /// The layer that made it what it is at last; -1 where nothing is left.
    layers: Vec<i32>,
    /// Number of the path, layer, sign (0 added, 1 changed, 2 deleted), bytes.
    changes: Vec<(u32, u32, u8, u64)>,
    /// Number of the path, and bytes there that are shipped and not shown.
    hidden: Vec<(u32, u64)>,
}

#[derive(Debug, Serialize)]
pub(super) struct WasteLine {
    pub(super) directory: String,
    pub(super) layer: usize,
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) reason: String,
}

/// What would make the image smaller.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    pub(super) saves: u64,
    pub(super) text: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FindingLine {
    pub(super) severity: &'static str,
    pub(super) rule: &'static str,
    pub(super) layer: Option<usize>,
    pub(super) text: String,
}

/// What differs between two images.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) added: u64,
    pub(super) changed: u64,
    pub(super) removed: u64,
    /// Every path that differs: sign, path, bytes before, bytes now.
    pub(super) paths: Vec<(char, String, u64, u64)>,
    pub(super) packages: Vec<PackageChange>,
}

/// As text that no page and no terminal obeys.
pub(super) fn text(bytes: &[u8]) -> String {
    Printable(bytes).to_string()
}

impl Data {
    pub(super) fn collect(
        names: &[String],
        first: &Looked,
        second: Option<&Looked>,
        settings: &Settings,
        common: &Common,
    ) -> anyhow::Result<Self> {
        let ignored = Ignore::parse(&settings.check.ignore)?;
        let looked = second.unwrap_or(first);
        let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
        let waste = traced.waste(None);
        let timeline = Timeline::of(&traced);
        let mut layers = layers(&looked.image, &waste);
        count_changes(&timeline, &mut layers);
        let mut images = Vec::new();
        if let (Some(_), Some(name)) = (second, names.first()) {
            let traced = Traced::new(&first.image, &first.indexes, &first.options)?;
            images.push(facts(name, &first.image, &traced.waste(None), &Timeline::of(&traced)));
        }
        images.push(facts(names.last().map_or("", String::as_str), &looked.image, &waste, &timeline));
        let what = CheckOptions { secrets: settings.check.secrets.unwrap_or(true), ..CheckOptions::default() };
        let mut found = check(&looked.image, what, &looked.options, progress::progress(common).as_ref())?;
        found.retain(|finding| !ignored.covers(finding));
        let comparison = second.map(|second| Comparison::of(first, second)).transpose()?;
        Ok(Self {
            images,
            verdicts: vec![of_waste(&traced, &waste, &settings.waste)?, of_findings(&found, settings.check.fail_on)],
            files: Files::of(&timeline, &waste, layers.len()),
            advice: advice(&waste, &layers),
            waste: traced.by_directory(&waste).into_iter().map(WasteLine::of).collect(),
            findings: found.iter().map(FindingLine::of).collect(),
            layers,
            comparison,
        })
    }
}

/// A time of a configuration as people read it; what is not one stays as it is.
fn readable(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => time.to_owned(),
    }
}

fn facts(name: &str, image: &Image, waste: &Waste, timeline: &Timeline) -> ImageFacts {
    let config = image.config.as_ref().map(|config| &config.parsed);
    let last = image.layers.len().checked_sub(1);
    let files =
        timeline.paths().filter(|&path| timeline.at(path, last).is_some_and(|file| file.kind == PathKind::File));
    ImageFacts {
        name: name.to_owned(),
        digest: image.manifest_digest().map(ToString::to_string),
        platform: config.map_or_else(String::new, |config| {
            let parts = [&config.os, &config.architecture].map(|part| text(part.as_bytes()));
            parts.join("/")
        }),
        created: config.map_or_else(String::new, |config| readable(&text(config.created.as_bytes()))),
        layers: image.layers.len(),
        stored: image.layers.iter().map(|layer| layer.blob.len()).sum(),
        size: waste.shipped(),
        wasted: waste.wasted(),
        files: files.count() as u64,
    }
}

fn layers(image: &Image, waste: &Waste) -> Vec<LayerFacts> {
    let created_by = image.created_by();
    let mut layers: Vec<LayerFacts> = image
        .layers
        .iter()
        .zip(created_by)
        .map(|(layer, words)| LayerFacts {
            words: super::super::table::instruction(words.as_deref().unwrap_or_default()),
            stored: layer.blob.len(),
            size: 0,
            replaced: 0,
            deleted: 0,
            duplicated: 0,
            added: 0,
            changed: 0,
            removed: 0,
        })
        .collect();
    for wasted in &waste.layers {
        if let Some(layer) = layers.get_mut(wasted.layer) {
            layer.size = wasted.shipped;
            (layer.replaced, layer.deleted, layer.duplicated) = (wasted.replaced, wasted.deleted, wasted.duplicated);
        }
    }
    layers
}

/// What a layer does to a path, as a sign.
fn sign(timeline: &Timeline, path: PathId, layer: usize) -> Option<(u8, u64)> {
    let size = |layer| timeline.file_size(path, layer);
    match timeline.change(path, layer.checked_sub(1), layer) {
        Change::Added => Some((0, size(Some(layer)))),
        Change::Changed => Some((1, size(Some(layer)))),
        Change::Deleted => Some((2, size(layer.checked_sub(1)))),
        Change::Same | Change::Absent => None,
    }
}

fn count_changes(timeline: &Timeline, layers: &mut [LayerFacts]) {
    for path in timeline.paths() {
        for state in timeline.states(path) {
            let Some(layer) = layers.get_mut(state.layer) else { continue };
            match sign(timeline, path, state.layer) {
                Some((0, _)) => layer.added += 1,
                Some((1, _)) => layer.changed += 1,
                Some(_) => layer.removed += 1,
                None => {}
            }
        }
    }
}

impl Files {
    fn of(timeline: &Timeline, waste: &Waste, layers: usize) -> Self {
        let Some(last) = layers.checked_sub(1) else { return Self::default() };
        let totals = timeline.totals(None, last);
        let mut files = Self::default();
        for path in timeline.paths() {
            files.names.push(text(timeline.name(path)));
            files.parents.push(timeline.parent(path).map_or(0, PathId::number));
            files.sizes.push(totals.size(path));
            let made = timeline.states(path).last().filter(|state| state.file.is_some());
            files.layers.push(made.map_or(-1, |state| state.layer as i32));
            for state in timeline.states(path) {
                if let Some((sign, bytes)) = sign(timeline, path, state.layer) {
                    files.changes.push((path.number(), state.layer as u32, sign, bytes));
                }
            }
        }
        // A file that is shown as well as another with the same content hides nothing.
        let hidden = waste.files.iter().filter(|file| !matches!(file.reason, Reason::Duplicated { .. }));
        let hidden = hidden.filter_map(|file| Some((timeline.find(&file.path)?.number(), file.bytes)));
        files.hidden = hidden.collect();
        // The root is always there.
        if let Some(root) = files.layers.first_mut() {
            *root = (*root).max(0);
        }
        files
    }
}

impl WasteLine {
    fn of(wasted: WastedDirectory) -> Self {
        let WastedDirectory { directory, layer, bytes, files, cause } = wasted;
        let directory = format!("/{}", directory.to_string().trim_start_matches('/'));
        Self { directory, layer, bytes, files, reason: cause.to_string() }
    }
}

/// Which instructions to join, the one that saves most first.
fn advice(waste: &Waste, layers: &[LayerFacts]) -> Vec<Advice> {
    let mut pairs: BTreeMap<(usize, usize), (u64, u64)> = BTreeMap::new();
    let (mut duplicated, mut copies) = (0, 0);
    for file in &waste.files {
        match file.reason {
            Reason::Replaced { by } | Reason::Deleted { by } => {
                let (bytes, files) = pairs.entry((file.layer, by)).or_default();
                *bytes += file.bytes;
                *files += 1;
            }
            Reason::Duplicated { .. } => {
                duplicated += file.bytes;
                copies += 1;
            }
        }
    }
    let words = |layer: usize| layers.get(layer).map_or("", |layer| layer.words.as_str());
    let mut advice: Vec<Advice> = pairs
        .into_iter()
        .filter(|((made, by), _)| made != by)
        .map(|((made, by), (saves, files))| {
            let is = |layer: usize, word: &str| words(layer).starts_with(word);
            let files = super::super::table::counted(files, "file", "files");
            let text = match () {
                // What a base image begins with.
                () if made == 0 && is(made, "ADD file:") => {
                    format!("Choose a smaller base image: layer {by} deletes or replaces {files} of layer 0.")
                }
                () if is(made, "RUN") && is(by, "RUN") => format!(
                    "Join the RUN instructions of layers {made} and {by}: layer {by} deletes or replaces {files} of layer {made}."
                ),
                () if is(made, "COPY") || is(made, "ADD") => format!(
                    "Do not copy in layer {made} what layer {by} deletes or replaces ({files}): list it in .dockerignore, or copy \
                     from a build stage."
                ),
                () => format!("Make the changes of layers {made} and {by} in one layer: layer {by} deletes or replaces {files} of layer {made}."),
            };
            Advice { saves, text }
        })
        .collect();
    if duplicated > 0 {
        let copies = super::super::table::counted(copies, "file has", "files have");
        advice.push(Advice {
            saves: duplicated,
            text: format!("{copies} the same content as another file: use hard or symbolic links."),
        });
    }
    advice.sort_by_key(|advice| std::cmp::Reverse(advice.saves));
    advice.truncate(20);
    advice
}

impl FindingLine {
    fn of(finding: &Finding) -> Self {
        let words = match &finding.path {
            Some(path) => format!("{path}: {}", finding.text),
            None => finding.text.clone(),
        };
        let (severity, rule) = (finding.severity.name(), finding.rule.name());
        Self { severity, rule, layer: finding.layer, text: super::super::output::one_line(&words) }
    }
}

impl Comparison {
    fn of(first: &Looked, second: &Looked) -> anyhow::Result<Self> {
        let compared = Compared::new(first, second)?;
        let total = compared.statistics.total();
        let line = |StatisticsRow { path, tally }: StatisticsRow| {
            let path = format!("/{}", path.to_string().trim_matches('/'));
            match tally {
                Tally { added: 1.., added_bytes, .. } => ('+', path, 0, added_bytes),
                Tally { removed: 1.., removed_bytes, .. } => ('-', path, removed_bytes, 0),
                Tally { bytes_before, bytes_after, .. } => ('~', path, bytes_before, bytes_after),
            }
        };
        let mut paths: Vec<_> = compared.statistics.rows(None).into_iter().map(line).collect();
        paths.sort_by_key(|(_, _, before, now)| std::cmp::Reverse(before.abs_diff(*now)));
        Ok(Self {
            added: total.added,
            changed: total.changed,
            removed: total.removed,
            paths,
            packages: changes(first, &compared.first, second, &compared.second),
        })
    }
}
