//! The list of layers: what made each, how large it is, how much of it is wasted.

use layflat::image::Image;
use layflat::inspect::Waste;

use super::super::table::instruction;

/// One layer in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerLine {
    pub(super) words: String,
    pub(super) size: u64,
    pub(super) wasted: u64,
}

/// The layers of an image, bottom first.
pub(super) fn layers(image: &Image, waste: &Waste) -> Vec<LayerLine> {
    let words = image.created_by();
    let mut lines: Vec<LayerLine> = words
        .iter()
        .map(|words| LayerLine { words: instruction(words.as_deref().unwrap_or_default()), size: 0, wasted: 0 })
        .collect();
    for layer in &waste.layers {
        if let Some(line) = lines.get_mut(layer.layer) {
            line.size = layer.shipped;
            line.wasted = layer.wasted;
        }
    }
    lines
}
