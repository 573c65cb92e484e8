//! Two images compared as `diff` does, for those who show the result in other ways.

use std::path::Path;

use hashbrown::HashMap;
use layflat::compare::{CompareOptions, Statistics, TreeDifference, What, differences};
use layflat::inspect::{Holding, Inside};

use super::super::arguments::Looked;
use super::text::words;

/// What two images show, and how that differs.
pub(crate) struct Compared<'l> {
    pub(crate) first: Inside<'l>,
    pub(crate) second: Inside<'l>,
    pub(crate) statistics: Statistics,
    found: Vec<TreeDifference>,
}

impl<'l> Compared<'l> {
    /// Compares two images by what they state.
    pub(crate) fn new(first: &'l Looked, second: &'l Looked) -> anyhow::Result<Self> {
        let (one, other) = (first.inside(None)?, second.inside(None)?);
        let a = one.shown_tree(Path::new("A"), Holding::AsStated, &first.options)?;
        let b = other.shown_tree(Path::new("B"), Holding::AsStated, &second.options)?;
        let found = differences(&a, &b, &CompareOptions::default())?;
        let statistics = Statistics::of(&found, a.tree(), b.tree());
        Ok(Self { first: one, second: other, statistics, found })
    }

    /// By path, without a leading slash: in what way it differs, where both have it.
    #[cfg_attr(not(feature = "explore"), expect(dead_code, reason = "only explore shows it"))]
    pub(crate) fn changed(&self) -> HashMap<Vec<u8>, Vec<String>> {
        let mut changed: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
        for TreeDifference { path, what } in &self.found {
            let names: Vec<&[u8]> = match what {
                What::OnlyInA { .. } | What::OnlyInB { .. } => continue,
                // Told at the first of the names that it is about.
                What::HardLinks { a, b } => a.iter().chain(b).flatten().map(|name| name.as_bytes()).collect(),
                _ => vec![path.as_bytes()],
            };
            for name in names {
                let name = if name == b"/" { b"" } else { name };
                let lines = changed.entry(name.to_vec()).or_default();
                let line = words(what);
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        changed
    }
}
