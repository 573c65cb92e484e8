//! `layflat inspect`

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::core::digest::Digest;
use layflat::core::record::LayerPath;
use layflat::image::{Config, Image, chain_ids};
use layflat::inspect::{LayerChanges, survey, survey_known};
use layflat::transport::source::{self, Selection, Tree};
use serde_json::{Value, json};

use super::arguments::{Common, ImageArgs};
use super::table::{align, bytes, count};
use super::{SUCCESS, output, progress};

/// Show the configuration, the layers, and what each layer adds, changes and deletes
///
/// Nothing is unpacked. Local layers are read and verified. Layers at a registry are not fetched: sizes come from the
/// manifest, and what a layer adds, changes and deletes is shown if the cache has its index, or with --counts.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    image: ImageArgs,
    /// Fetch and verify remote layers, to count what each adds, changes and deletes
    #[arg(long)]
    counts: bool,
    /// List the paths that each layer adds (+), changes (~) and deletes (-); fetches remote layers, like --counts
    #[arg(long)]
    paths: bool,
    /// Print only the manifest, byte for byte; for a multi-platform image the index, unless --platform is given
    #[arg(long, conflicts_with_all = ["counts", "paths", "config"])]
    raw: bool,
    /// Print only the configuration, byte for byte
    #[arg(long, conflicts_with_all = ["counts", "paths"])]
    config: bool,
}

/// What is known about a layer.
struct Row {
    digest: Option<Digest>,
    diff_id: Option<Digest>,
    compression: Option<&'static str>,
    size: u64,
    expanded: Option<u64>,
    changes: Option<LayerChanges>,
}

impl Inspect {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        if self.raw || self.config {
            let bytes = if self.raw { self.manifest(cancel)? } else { self.configuration(cancel)? };
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
            return Ok(SUCCESS);
        }
        let image = self.image.open(cancel)?;
        let rows = self.rows(&image, common, cancel)?;
        let is_counted = rows.iter().all(|row| row.changes.is_some());
        if common.json {
            output::json(&self.document(&image, &rows)?)?;
        } else {
            output::lines(self.text(&image, &rows))?;
            if !is_counted {
                output::say(
                    common,
                    "note: no layer was fetched; --counts fetches them and shows what each adds, changes and deletes",
                );
            }
        }
        Ok(SUCCESS)
    }

    fn manifest(&self, cancel: &Cancel) -> anyhow::Result<Vec<u8>> {
        let reference = source::reference(&self.image.image)?;
        let found = source::manifest(&reference, &self.image.open.open_options(cancel)?);
        let manifest = found.with_context(|| format!("cannot open {reference}"))?;
        Ok(manifest.with_context(|| format!("{reference} has no manifest; --config prints its configuration"))?.bytes)
    }

    /// The configuration of an image, or of whatever else has one.
    fn configuration(&self, cancel: &Cancel) -> anyhow::Result<Vec<u8>> {
        let reference = source::reference(&self.image.image)?;
        let options = self.image.open.open_options(cancel)?;
        let none = || format!("{reference} has no configuration");
        let opened = source::open_set(&reference, Selection::default(), &options);
        let opened = opened.with_context(|| format!("cannot open {reference}"))?;
        match opened.into_iter().next().map(|named| named.content) {
            Some(Tree::Image(image)) => Ok(image.config.with_context(none)?.bytes),
            Some(Tree::Attachment(other)) => {
                Ok(other.config().with_context(none)?.read_all(options.limits.metadata_size)?)
            }
            _ => anyhow::bail!(none()),
        }
    }

    /// What is known of each layer, without fetching more than was asked for.
    fn rows(&self, image: &Image, common: &Common, cancel: &Cancel) -> anyhow::Result<Vec<Row>> {
        let options = self.image.open.options(cancel)?;
        let is_elsewhere = image.layers.iter().any(|layer| layer.blob.is_remote());
        if !is_elsewhere || self.counts || self.paths {
            let survey = survey(image, &options, progress::progress(common).as_ref())?;
            let row = |layer: layflat::inspect::LayerSurvey| Row {
                digest: Some(layer.facts.digest),
                diff_id: Some(layer.facts.diff_id),
                compression: Some(layer.facts.compression.name()),
                size: layer.facts.size,
                expanded: Some(layer.facts.expanded),
                changes: Some(layer.changes),
            };
            return Ok(survey.into_iter().map(row).collect());
        }
        let known = match self.image.open.remote.trusted_cache()? {
            Some(cache) => survey_known(image, &cache, &options)?,
            None => None,
        };
        let mut known = known.into_iter().flatten();
        let row = |layer: &layflat::image::Layer| Row {
            digest: layer.blob.digest().cloned(),
            diff_id: layer.diff_id.clone(),
            compression: layer.stated_compression().map(layflat::blob::Compression::name),
            size: layer.blob.len(),
            expanded: None,
            changes: known.next(),
        };
        Ok(image.layers.iter().map(row).collect())
    }

    fn document(&self, image: &Image, rows: &[Row]) -> anyhow::Result<Value> {
        let config = match &image.config {
            Some(config) => serde_json::from_str(&config.text()).context("the configuration is not a JSON document")?,
            None => Value::Null,
        };
        let diff_ids: Vec<Digest> = rows.iter().filter_map(|row| row.diff_id.clone()).collect();
        let mut chain_ids = chain_ids(&diff_ids).into_iter().map(Some).collect::<Vec<_>>();
        chain_ids.resize(rows.len(), None);
        let history = image.created_by();
        let layers: Vec<Value> = rows
            .iter()
            .zip(chain_ids)
            .zip(history)
            .map(|((row, chain_id), history)| {
                let changes = row.changes.as_ref();
                let mut value = json!({
                    "digest": row.digest,
                    "diff_id": row.diff_id,
                    "chain_id": chain_id,
                    "compression": row.compression,
                    "size": row.size,
                    "expanded": row.expanded,
                    "entries": changes.map(|changes| changes.entries),
                    "adds": changes.map(|changes| changes.adds.len()),
                    "replaces": changes.map(|changes| changes.replaces.len()),
                    "hides": changes.map(|changes| changes.hides.len()),
                    "created_by": history,
                });
                if let Some(changes) = changes.filter(|_| self.paths) {
                    let list = |paths: &[LayerPath]| paths.iter().map(LayerPath::to_string).collect::<Vec<_>>();
                    value["paths"] = json!({
                        "adds": list(&changes.adds), "replaces": list(&changes.replaces), "hides": list(&changes.hides),
                    });
                }
                value
            })
            .collect();
        Ok(json!({
            "image": image.name,
            "image_digest": image.manifest_digest(),
            "config_digest": image.config.as_ref().map(|config| &config.digest),
            "layers": layers,
            "config": config,
        }))
    }

    fn text(&self, image: &Image, rows: &[Row]) -> Vec<String> {
        let mut lines = facts(image, rows);
        lines.push(String::new());
        lines.extend(table(rows));
        let histories = image.created_by();
        if histories.iter().any(Option::is_some) {
            lines.push(String::new());
            for (index, created_by) in histories.iter().enumerate() {
                let text = created_by.as_deref().unwrap_or("(no history)");
                lines.push(format!("{index:>3}  {}", layflat::core::text::Printable(text.as_bytes())));
            }
        }
        let paths = rows.iter().filter_map(|row| row.changes.as_ref()).filter(|_| self.paths);
        for (index, changes) in paths.enumerate() {
            lines.push(String::new());
            lines.push(format!("layer {index}"));
            let signed =
                |sign: char, paths: &[LayerPath]| paths.iter().map(|path| (path.clone(), sign)).collect::<Vec<_>>();
            let mut all = signed('+', &changes.adds);
            all.extend(signed('~', &changes.replaces));
            all.extend(signed('-', &changes.hides));
            all.sort();
            lines.extend(all.into_iter().map(|(path, sign)| format!("{sign} {path}")));
        }
        lines
    }
}

/// What concerns all of the image.
fn facts(image: &Image, rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fact = |name: &str, value: String| lines.push(format!("{name:<14}{}", output::one_line(&value)));
    if let Some(name) = &image.name {
        fact("image", name.clone());
    }
    if let Some(digest) = image.manifest_digest() {
        fact("image digest", digest.to_string());
    }
    if let Some(config) = &image.config {
        fact("config digest", config.digest.to_string());
        for (name, value) in config_facts(config) {
            fact(name, value);
        }
    }
    let compressed = bytes(rows.iter().map(|row| row.size).sum());
    let expanded: Option<u64> = rows.iter().map(|row| row.expanded).sum();
    let expanded = expanded.map(|expanded| format!(", {} uncompressed", bytes(expanded))).unwrap_or_default();
    fact("layers", format!("{}, {compressed} compressed{expanded}", rows.len()));
    lines
}

/// One line per layer; unknown columns are left out.
fn table(rows: &[Row]) -> Vec<String> {
    let is_read = rows.iter().all(|row| row.expanded.is_some());
    let is_counted = rows.iter().all(|row| row.changes.is_some());
    let mut head = vec!["", "compressed", ""];
    head.extend(is_read.then_some("size"));
    if is_counted {
        head.extend(["entries", "adds", "changes", "deletes"]);
    }
    head.push("diff_id");
    let mut table = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (index, row) in rows.iter().enumerate() {
        let mut cells = vec![index.to_string(), bytes(row.size), row.compression.unwrap_or("?").to_owned()];
        cells.extend(row.expanded.filter(|_| is_read).map(bytes));
        if let Some(changes) = row.changes.as_ref().filter(|_| is_counted) {
            let numbers = [changes.adds.len(), changes.replaces.len(), changes.hides.len()];
            cells.push(count(changes.entries));
            cells.extend(numbers.map(|number| count(number as u64)));
        }
        cells.push(row.diff_id.as_ref().map(|diff_id| diff_id.hex()[..12].to_owned()).unwrap_or_default());
        table.push(cells);
    }
    align(&table)
}

/// What of the configuration people ask for first.
fn config_facts(config: &Config) -> Vec<(&'static str, String)> {
    let run = &config.parsed.config;
    let list = |words: &[String]| if words.is_empty() { String::new() } else { format!("{words:?}") };
    let set = |words: &BTreeSet<String>| list(&words.iter().cloned().collect::<Vec<_>>());
    let facts = [
        ("platform", config.platform().to_string()),
        ("created", config.parsed.created.clone()),
        ("entrypoint", list(&run.entrypoint)),
        ("cmd", list(&run.cmd)),
        ("user", run.user.clone()),
        ("directory", run.working_dir.clone()),
        ("env", list(&run.env)),
        ("ports", set(&run.exposed_ports)),
        ("volumes", set(&run.volumes)),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
