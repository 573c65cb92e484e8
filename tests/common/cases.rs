//! The lines of fixtures/stacks: the layers of a stack, and the whole tree that it must show.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use super::text::Stack;
use super::tree::Tree;

#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub stack: Stack,
    pub expected: Expected,
    /// The tree of the overlay mount, where it cannot be the flat one's.
    pub overlay: Option<String>,
    /// What a layer's own directory must hold.
    pub layers: Vec<(usize, String)>,
}

#[derive(Debug, Clone)]
pub enum Expected {
    Tree(String),
    Reject(String),
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into()))
            .join("fixtures/stacks"),
    )
    .unwrap()
    .map(|entry| entry.unwrap().path())
    .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
    .collect();
    files.sort();
    files.iter().flat_map(|file| cases(file)).collect()
}

fn cases(file: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(more) = line.strip_prefix("  ") {
            let case = cases.last_mut().unwrap();
            let (key, value) = more.split_once(':').unwrap();
            match key.strip_prefix("layer ") {
                Some(layer) => case.layers.push((layer.parse().unwrap(), value.trim().to_owned())),
                None => case.overlay = Some(value.trim().to_owned()),
            }
            continue;
        }
        let (name, rest) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let (stack, expected) = rest.split_once("=> ").unwrap_or_else(|| panic!("{line}"));
        let expected = match expected.strip_prefix("reject ") {
            Some(words) => Expected::Reject(words.to_owned()),
            None => Expected::Tree(expected.trim().to_owned()),
        };
        let name = name.to_owned();
        cases.push(Case { name, stack: Stack::parse(stack.trim()), expected, overlay: None, layers: Vec::new() });
    }
    cases
}

/// Of several ways to try a stack in: one, in turn, so that each stack is tried and each way meets many. All of them with
/// `LAYFLAT_STACKS=all`. `number` is the stack's place in [`all`].
pub fn in_turn<T: Copy>(number: usize, ways: &[T]) -> Vec<T> {
    if std::env::var("LAYFLAT_STACKS").is_ok_and(|which| which == "all") {
        ways.to_vec()
    } else {
        vec![ways[number % ways.len()]]
    }
}

/// Fails with a line for each name that differs.
pub fn compare(expected: &Tree, found: &Tree) -> Result<(), Failed> {
    let differences = expected.differences(found);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}
