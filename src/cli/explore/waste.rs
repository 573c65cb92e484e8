//! The list of what is wasted, by directory.

use std::collections::BTreeMap;

use layflat::core::record::LayerPath;
use layflat::inspect::Waste;

/// What one layer ships in vain in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WasteLine {
    pub(super) directory: LayerPath,
    pub(super) layer: usize,
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// Why, as for the largest of the files.
    pub(super) reason: String,
}

/// Directories, the one that wastes most first.
pub(super) fn by_directory(waste: &Waste) -> Vec<WasteLine> {
    let mut lines: BTreeMap<(LayerPath, usize), WasteLine> = BTreeMap::new();
    // The largest file comes first.
    for file in &waste.files {
        let directory = file.path.split_last().map_or_else(LayerPath::root, |(directory, _)| directory);
        let line = lines.entry((directory.clone(), file.layer)).or_insert_with(|| WasteLine {
            directory,
            layer: file.layer,
            bytes: 0,
            files: 0,
            reason: file.reason.to_string(),
        });
        line.bytes += file.bytes;
        line.files += 1;
    }
    let mut lines: Vec<WasteLine> = lines.into_values().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
    lines
}
