//! `layflat inspect`

use std::collections::BTreeSet;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::form::{LayerSurvey, survey};
use layflat::image::{Config, Image, chain_ids};
use layflat::layer::LayerPath;
use serde_json::{Value, json};

use super::arguments::{Common, ImageArgs};
use super::table::{align, bytes, count};
use super::{SUCCESS, output, progress};

/// Show what an image is made of, and what each layer adds, replaces and hides
///
/// Reads and checks all layers; writes nothing.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    image: ImageArgs,
    /// List the paths that each layer adds (+), replaces (~) and hides (-)
    #[arg(long)]
    paths: bool,
}

impl Inspect {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let image = self.image.open(cancel)?;
        let layers = survey(&image, &self.image.open.options(cancel)?, progress::progress(common).as_ref())?;
        if common.json {
            output::json(&self.document(&image, &layers)?)?;
        } else {
            output::lines(self.text(&image, &layers))?;
        }
        Ok(SUCCESS)
    }

    fn document(&self, image: &Image, layers: &[LayerSurvey]) -> anyhow::Result<Value> {
        let config = match &image.config {
            Some(config) => serde_json::from_str(&config.text()).context("the configuration is no JSON document")?,
            None => Value::Null,
        };
        let chain_ids = chain_ids(&diff_ids(layers));
        let history = image.created_by();
        let layers: Vec<Value> = layers
            .iter()
            .zip(chain_ids)
            .zip(history)
            .map(|((layer, chain_id), history)| {
                let mut value = json!({
                    "digest": layer.facts.digest,
                    "diff_id": layer.facts.diff_id,
                    "chain_id": chain_id,
                    "compression": layer.facts.compression.name(),
                    "size": layer.facts.size,
                    "expanded": layer.facts.expanded,
                    "entries": layer.entries,
                    "adds": layer.adds.len(),
                    "replaces": layer.replaces.len(),
                    "hides": layer.hides.len(),
                    "created_by": history,
                });
                if self.paths {
                    let list = |paths: &[LayerPath]| paths.iter().map(LayerPath::to_string).collect::<Vec<_>>();
                    value["paths"] = json!({
                        "adds": list(&layer.adds), "replaces": list(&layer.replaces), "hides": list(&layer.hides),
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

    fn text(&self, image: &Image, layers: &[LayerSurvey]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut fact = |name: &str, value: String| lines.push(format!("{name:<14}{value}"));
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
        let total = |number: fn(&LayerSurvey) -> u64| layers.iter().map(number).sum::<u64>();
        let stored = bytes(total(|layer| layer.facts.size));
        let expanded = bytes(total(|layer| layer.facts.expanded));
        fact("layers", format!("{}, {stored} stored, {expanded} uncompressed", layers.len()));
        lines.push(String::new());

        let head = ["", "stored", "", "expanded", "entries", "adds", "replaces", "hides", "diff_id"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (index, layer) in layers.iter().enumerate() {
            rows.push(vec![
                index.to_string(),
                bytes(layer.facts.size),
                layer.facts.compression.name().to_owned(),
                bytes(layer.facts.expanded),
                count(layer.entries),
                count(layer.adds.len() as u64),
                count(layer.replaces.len() as u64),
                count(layer.hides.len() as u64),
                layer.facts.diff_id.hex()[..12].to_owned(),
            ]);
        }
        lines.extend(align(&rows));
        let histories = image.created_by();
        if histories.iter().any(Option::is_some) {
            lines.push(String::new());
            for (index, created_by) in histories.iter().enumerate() {
                let text = created_by.as_deref().unwrap_or("(no history)");
                lines.push(format!("{index:>3}  {}", layflat::layer::Printable(text.as_bytes())));
            }
        }
        if self.paths {
            for (index, layer) in layers.iter().enumerate() {
                lines.push(String::new());
                lines.push(format!("layer {index}"));
                let marked =
                    |mark: char, paths: &[LayerPath]| paths.iter().map(|path| (path.clone(), mark)).collect::<Vec<_>>();
                let mut all = marked('+', &layer.adds);
                all.extend(marked('~', &layer.replaces));
                all.extend(marked('-', &layer.hides));
                all.sort();
                lines.extend(all.into_iter().map(|(path, mark)| format!("{mark} {path}")));
            }
        }
        lines
    }
}

fn diff_ids(layers: &[LayerSurvey]) -> Vec<layflat::blob::Digest> {
    layers.iter().map(|layer| layer.facts.diff_id.clone()).collect()
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
