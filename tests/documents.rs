//! The documents say where things are; this keeps them right when things move.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned())).into()
}

/// The documents at the top, those in docs/, and the fixtures' own.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = [root(), root().join("docs"), root().join("fixtures/stacks")]
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    assert!(found.len() > 8, "{found:?}");
    found
}

/// All of a kind of file below a directory.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    walkdir::WalkDir::new(root().join(directory))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

#[test]
fn what_documents_cite_is_there() {
    let paths =
        Regex::new("`((?:src|tests|fixtures|scripts|docs|examples|benches|fuzz|[.]ci)/[A-Za-z0-9_./-]*)").unwrap();
    let links = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let directory = document.parent().unwrap();
        let cited = paths.captures_iter(&text).map(|found| root().join(&found[1]));
        let linked = links.captures_iter(&text).map(|found| directory.join(&found[1]));
        for path in cited.chain(linked).filter(|path| !path.exists() && !is_made(path)) {
            missing.push(format!("{}: {}", document.display(), path.display()));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What is not in the repository, and made by its scripts.
fn is_made(path: &Path) -> bool {
    path.starts_with(root().join("fuzz/artifacts"))
}

#[test]
fn every_rule_that_is_cited_is_stated() {
    let rules = std::fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let heading = Regex::new(r"(?m)^(?:### |- \*\*)([NMLAOTDS]\d+)\b").unwrap();
    let stated: BTreeSet<String> = heading.captures_iter(&rules).map(|found| found[1].to_owned()).collect();
    assert!(stated.len() > 30, "{stated:?}");
    let cited = Regex::new(r"\brules? ((?:[NMLAOTDS]\d+(?:, | and | to )?)+)").unwrap();
    let number = Regex::new(r"[NMLAOTDS]\d+").unwrap();
    let named = Regex::new(r"(?m)(?:^|fn )([nmlaotds]\d+)_[a-z]").unwrap();
    let code = files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("fixtures/stacks", "txt"));
    for file in code {
        let text = std::fs::read_to_string(&file).unwrap();
        let in_words = cited.captures_iter(&text).flat_map(|found| {
            number.find_iter(found.get(1).unwrap().as_str()).map(|rule| rule.as_str().to_owned()).collect::<Vec<_>>()
        });
        let in_names = named.captures_iter(&text).map(|found| found[1].to_uppercase());
        for rule in in_words.chain(in_names) {
            assert!(stated.contains(&rule), "{}: rule {rule} is not in docs/rules.md", file.display());
        }
    }
}

#[test]
fn every_kernel_fact_is_tried_and_explained() {
    let script = std::fs::read_to_string(root().join("scripts/try-kernel")).unwrap();
    let document = std::fs::read_to_string(root().join("docs/kernel.md")).unwrap();
    let tried = Regex::new(r"(?m)^@fact\ndef (\w+)").unwrap();
    let explained = Regex::new(r"(?m)^\| `(\w+)` \|").unwrap();
    let names = |pattern: &Regex, text: &str| {
        pattern.captures_iter(text).map(|found| found[1].to_owned()).collect::<BTreeSet<_>>()
    };
    let tried = names(&tried, &script);
    assert!(tried.len() > 15);
    assert_eq!(tried, names(&explained, &document));
}
