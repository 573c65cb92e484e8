//! The Static Analysis Results Interchange Format, version 2.1.0 (OASIS).
//!
//! It is written by hand: the crate serde-sarif generates several hundred types for the dozen fields that are used here.

use layflat::inspect::check::Severity;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

use super::{Problem, Verdict};

/// What stands as it is in a relative reference (RFC 3986): the unreserved characters, and the slash.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

pub(super) fn document(verdict: &Verdict<'_>) -> Value {
    let rules: Vec<Value> = verdict
        .rules
        .iter()
        .map(|rule| {
            json!({
                "id": rule.name,
                "shortDescription": {"text": rule.meaning},
                "fullDescription": {"text": rule.meaning},
                "help": {"text": format!("To fix it: {}.", rule.fix)},
                "defaultConfiguration": {"level": level(rule.severity)},
            })
        })
        .collect();
    let results: Vec<Value> = verdict
        .problems
        .iter()
        .zip(verdict.fingerprints())
        .map(|(problem, fingerprint)| result(verdict, problem, &fingerprint))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "layflat", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "results": results,
            "columnKind": "unicodeCodePoints",
        }],
    })
}

fn result(verdict: &Verdict<'_>, problem: &Problem, fingerprint: &str) -> Value {
    // Who shows results by files needs one for each: the image itself where it is about no file in it.
    let path = problem.path.as_deref().filter(|path| !path.is_empty()).unwrap_or(verdict.image.as_bytes());
    let uri = percent_encode(path, RESERVED).to_string();
    let uri = uri.trim_start_matches('/');
    let mut physical = json!({"artifactLocation": {"uri": if uri.is_empty() { "." } else { uri }}});
    if let Some(line) = problem.line {
        physical["region"] = json!({"startLine": line});
    }
    let layer = problem.layer.map(|layer| json!({"name": format!("layer {layer}"), "kind": "layer"}));
    let place = problem.place.as_ref().map(|place| json!({"fullyQualifiedName": place, "kind": "configuration"}));
    let logical: Vec<Value> = layer.into_iter().chain(place).collect();
    let mut location = json!({"physicalLocation": physical});
    if !logical.is_empty() {
        location["logicalLocations"] = json!(logical);
    }
    let mut result = json!({
        "ruleId": problem.rule,
        "level": level(problem.severity),
        "message": {"text": escaped(&problem.message())},
        "locations": [location],
        "partialFingerprints": {"layflatFinding/v1": fingerprint},
    });
    if let Some(index) = verdict.rules.iter().position(|rule| rule.name == problem.rule) {
        result["ruleIndex"] = json!(index);
    }
    if !problem.kind.is_empty() {
        result["properties"] = json!({"secret": problem.kind});
    }
    result
}

/// A text in which nothing is a placeholder (section 3.11.5) or a link (section 3.11.6).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '{' | '}' => escaped.push(character),
            '[' | ']' | '\\' => escaped.push('\\'),
            _ => {}
        }
        escaped.push(character);
    }
    escaped
}

fn level(severity: Severity) -> &'static str {
    severity.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_neither_placeholders_nor_links() {
        assert_eq!(escaped("plain, (text)"), "plain, (text)");
        assert_eq!(escaped(r"{0} [a](http://b) \x1b"), r"{{0}} \[a\](http://b) \\x1b");
    }
}
