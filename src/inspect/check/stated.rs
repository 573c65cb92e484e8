//! Secrets in what the configuration states (variables, labels, commands, health checks, the history), and in the
//! annotations of the manifest.

use std::collections::HashMap;

use serde_json::Value;

use super::secrets::{Found, search, search_named};
use super::{Finding, Rule, Severity};
use crate::image::Image;

/// Texts in one image that are searched, so that no image makes the search endless.
const MOST: usize = 100_000;

/// What the configuration and the manifest give away.
pub(super) fn secrets(image: &Image) -> Vec<Finding> {
    let mut stated = Stated::default();
    if let Some(config) = &image.config
        && let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(&config.bytes)
    {
        stated.configuration(&fields);
    }
    if let Some(manifest) = &image.manifest
        && let Ok(manifest) = serde_json::from_slice::<Value>(&manifest.bytes)
    {
        stated.manifest(&manifest);
    }
    stated.findings
}

#[derive(Default)]
struct Stated {
    findings: Vec<Finding>,
    /// Values that were reported, and as how bad.
    seen: HashMap<[u8; 32], Severity>,
    texts: usize,
}

impl Stated {
    fn configuration(&mut self, fields: &serde_json::Map<String, Value>) {
        // In this order, so that a variable is reported where it is set, and not again where the history says so.
        for (name, value) in fields {
            // Docker keeps how the last step was run beside how the image is run.
            if name.eq_ignore_ascii_case("config") || name.eq_ignore_ascii_case("container_config") {
                self.run(name, value);
            }
        }
        for (name, value) in fields {
            match name.to_ascii_lowercase().as_str() {
                "config" | "container_config" | "rootfs" => {}
                "history" => self.history(value),
                _ => self.texts(Rule::ConfigSecret, name, value),
            }
        }
    }

    /// The annotations of a manifest, of its configuration and of its layers.
    fn manifest(&mut self, manifest: &Value) {
        self.annotations("annotations", &manifest["annotations"]);
        self.annotations("config/annotations", &manifest["config"]["annotations"]);
        for (index, layer) in manifest["layers"].as_array().into_iter().flatten().enumerate() {
            let before = self.findings.len();
            self.annotations(&format!("layers/{index}/annotations"), &layer["annotations"]);
            self.findings[before..].iter_mut().for_each(|finding| finding.layer = Some(index));
        }
    }

    fn annotations(&mut self, at: &str, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            self.named(Rule::AnnotationSecret, at, name, value.as_str().unwrap_or_default());
        }
    }

    /// How a container is run.
    fn run(&mut self, at: &str, value: &Value) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let at = format!("{at}/{name}");
            match (name.to_ascii_lowercase().as_str(), value) {
                ("env", Value::Array(variables)) => {
                    for variable in variables.iter().filter_map(Value::as_str) {
                        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                        self.named(Rule::EnvSecret, &at, name, value);
                    }
                }
                ("labels", Value::Object(labels)) => {
                    for (name, value) in labels {
                        self.named(Rule::LabelSecret, &at, name, value.as_str().unwrap_or_default());
                    }
                }
                _ => self.texts(Rule::ConfigSecret, &at, value),
            }
        }
    }

    /// The history, whose lines belong to layers but for those that made none.
    fn history(&mut self, value: &Value) {
        let Value::Array(lines) = value else { return };
        let mut layer = 0;
        for (index, line) in lines.iter().enumerate() {
            let before = self.findings.len();
            let place = format!("history/{index}");
            for text in line.as_object().into_iter().flat_map(serde_json::Map::values) {
                self.texts(Rule::HistorySecret, &place, text);
            }
            if line["empty_layer"] != Value::Bool(true) {
                self.findings[before..].iter_mut().for_each(|finding| finding.layer = Some(layer));
                layer += 1;
            }
        }
    }

    /// A value with a name of its own.
    fn named(&mut self, rule: Rule, at: &str, name: &str, value: &str) {
        self.texts += 1;
        if self.texts <= MOST {
            self.add(rule, &format!("{at}/{name}"), search_named(name, value));
        }
    }

    /// All texts in a value.
    fn texts(&mut self, rule: Rule, at: &str, value: &Value) {
        self.texts += 1;
        match value {
            _ if self.texts > MOST => {}
            Value::String(text) => self.add(rule, at, search(text)),
            Value::Array(values) => {
                // Arguments, of which one may name the next.
                let words: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                self.add(rule, at, search(&words.join(" ")));
                values.iter().filter(|value| !value.is_string()).for_each(|value| self.texts(rule, at, value));
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.texts(rule, &format!("{at}/{name}"), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add(&mut self, rule: Rule, place: &str, found: Vec<Found>) {
        for found in found {
            let is_worse = self.seen.get(&found.value).is_none_or(|&before| found.severity < before);
            if is_worse {
                self.seen.insert(found.value, found.severity);
                let text = format!("{} holds {}", crate::core::text::Printable(place.as_bytes()), found.what());
                let finding = Finding::new(found.severity, rule, text);
                self.findings.push(Finding { place: Some(place.to_owned()), secret: Some(found.kind), ..finding });
            }
        }
    }
}
