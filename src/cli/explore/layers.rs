//! The list of layers: what made each, how large it is, how much of it is wasted.

use layflat::core::text::Printable;
use layflat::image::Image;
use layflat::inspect::Waste;

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

/// A line of the history as it was in the Dockerfile.
fn instruction(words: &str) -> String {
    let words = words.trim();
    let words = words.strip_suffix("# buildkit").unwrap_or(words).trim_end();
    let shell = words.strip_prefix("/bin/sh -c ");
    let text = match shell.map(str::trim_start) {
        Some(instruction) if instruction.starts_with("#(nop)") => instruction["#(nop)".len()..].trim_start().to_owned(),
        Some(command) => format!("RUN {command}"),
        None => words.replacen("RUN /bin/sh -c ", "RUN ", 1),
    };
    Printable(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_reads_as_a_dockerfile() {
        assert_eq!(instruction("/bin/sh -c #(nop) ADD file:ab in / "), "ADD file:ab in /");
        assert_eq!(instruction("/bin/sh -c apt-get update"), "RUN apt-get update");
        assert_eq!(instruction("RUN /bin/sh -c pip install x # buildkit"), "RUN pip install x");
        assert_eq!(instruction("COPY . /app # buildkit"), "COPY . /app");
        assert_eq!(instruction("\x1b[31m"), "\\x1b[31m");
    }
}
