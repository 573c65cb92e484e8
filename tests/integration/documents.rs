//! The documents say where things are; this keeps them right when things move.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::collections::{BTreeMap, BTreeSet};
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
        Regex::new("`((?:src|tests|fixtures|scripts|docs|contrib|examples|benches|fuzz|[.]ci)/[A-Za-z0-9_./-]*)")
            .unwrap();
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
    let heading = Regex::new(r"(?m)^(?:### |- \*\*)([NMLAOTDSC]\d+)\b").unwrap();
    let stated: BTreeSet<String> = heading.captures_iter(&rules).map(|found| found[1].to_owned()).collect();
    assert!(stated.len() > 30, "{stated:?}");
    let cited = Regex::new(r"\brules? ((?:[NMLAOTDSC]\d+(?:, | and | to )?)+)").unwrap();
    let number = Regex::new(r"[NMLAOTDSC]\d+").unwrap();
    let named = Regex::new(r"(?m)(?:^|fn )([nmlaotdsc]\d+)_[a-z]").unwrap();
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

/// Where programs have a harness of their own, the compiler drops functions with that attribute without a word.
#[test]
fn every_test_is_run() {
    let ours = ["privileged", "hostile", "containerd", "common"].map(|program| root().join("tests").join(program));
    for file in files("tests", "rs").into_iter().filter(|file| ours.iter().any(|program| file.starts_with(program))) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lost = text.lines().position(|line| line.trim() == "#[test]");
        assert!(lost.is_none(), "{}: line {}: belongs into the list of tests", file.display(), lost.unwrap() + 1);
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

/// The floors of a table in ARCHITECTURE.md: each room with its number.
fn floors(marker: &str) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split_once(marker).unwrap().1.trim_start().split("\n\n").next().unwrap();
    let room = Regex::new("`([a-z0-9_]+)`").unwrap();
    let mut floors = BTreeMap::new();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in room.captures_iter(cells[2]) {
            floors.insert(name[1].to_owned(), cells[1].parse().unwrap());
        }
    }
    floors
}

/// The rooms of a folder: what its files and folders are called.
fn rooms(folder: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_str().unwrap().trim_end_matches(".rs").to_owned())
        .filter(|name| !matches!(name.as_str(), "lib" | "main" | "mod"))
        .collect()
}

/// Every arrow from a room of a folder to another one, and the file that has it. Tests may look anywhere.
fn arrows(folder: &str, prefix: &str) -> Vec<(String, String, PathBuf)> {
    let used = Regex::new(&format!(r"\b{prefix}::([a-z0-9_]+)\b")).unwrap();
    let comment = Regex::new(r"(?m)^\s*//.*$").unwrap();
    let mut found = Vec::new();
    for file in files(folder, "rs") {
        let inside = file.strip_prefix(root().join(folder)).unwrap();
        let from = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let text = comment.replace_all(text, "");
        assert!(!text.contains(&format!("use {prefix}::{{")), "{file:?}: one use line for each room");
        for room in used.captures_iter(&text) {
            if room[1] != from {
                found.push((from.clone(), room[1].to_owned(), file.clone()));
            }
        }
    }
    found
}

/// No room uses one on its own floor or above it, and so there are no circles.
fn held_to(marker: &str, folder: &str, prefix: &str, at_least: usize) {
    let floors = floors(marker);
    assert_eq!(
        floors.keys().cloned().collect::<BTreeSet<_>>(),
        rooms(folder),
        "ARCHITECTURE.md lists all rooms of {folder}"
    );
    let arrows = arrows(folder, prefix);
    let wrong: Vec<String> = arrows
        .iter()
        .filter(|(from, to, _)| match (floors.get(from), floors.get(to)) {
            (Some(from), Some(to)) => to >= from,
            // The crate's front page.
            (None, _) => false,
            (_, None) => rooms(folder).contains(to),
        })
        .map(|(from, to, file)| format!("{from} uses {to}: {}", file.display()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let kinds: BTreeSet<_> = arrows.iter().map(|(from, to, _)| (from, to)).collect();
    assert!(kinds.len() >= at_least, "only {} arrows were found", kinds.len());
}

#[test]
fn rooms_use_only_rooms_below_them() {
    held_to("<!-- floors -->", "src", "crate", 60);
    held_to("<!-- floors of core -->", "src/core", "crate::core", 8);
}

#[test]
fn nothing_in_core_does_io() {
    let io = Regex::new(
        r"\b(std::(fs|net::(?:Tcp|Udp|ToSocketAddrs)|process|time|os|env::(?:var|args|current_dir|temp_dir))|rustix|nix|tempfile|walkdir)::",
    )
    .unwrap();
    for file in files("src/core", "rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let found: Vec<&str> = io.find_iter(text).map(|found| found.as_str()).collect();
        let allowed = |found: &&str| *found == "std::os::";
        assert!(found.iter().all(allowed), "{}: {found:?}", file.display());
    }
}

/// Where a signal ends them they are made again: network file systems and FUSE do that although our handlers ask the kernel for it.
#[test]
fn calls_that_a_signal_may_end_are_made_in_one_place() {
    let imported = Regex::new(r"use rustix::fs::(?:\{([^}]*)\}|(\w+))").unwrap();
    let called = Regex::new(r"rustix::fs::(?:open|openat|openat2|flock)\(|\bDir::read_from\b").unwrap();
    let kept = ["open", "openat", "openat2", "flock"];
    for file in files("src", "rs") {
        if file.ends_with("fs/again.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let names = imported.captures_iter(text).filter_map(|found| found.get(1).or(found.get(2)));
        let names = names.flat_map(|names| names.as_str().split(',').map(str::trim).collect::<Vec<_>>());
        let found: Vec<&str> = names.filter(|name| kept.contains(name)).collect();
        assert!(
            found.is_empty() && !called.is_match(text),
            "{}: {found:?}, or a call: see src/fs/again.rs",
            file.display()
        );
    }
}
