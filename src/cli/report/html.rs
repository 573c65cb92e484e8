//! The report as one HTML file.
//!
//! Names and contents of an image are data in it and never markup: they are in one JSON block in which `<` cannot occur, and the script
//! puts them into the page as text. The page's policy allows this script and style alone, by their digests, and no network.

use layflat::core::text::steers_terminal;
use sha2::{Digest as _, Sha256};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::data::Data;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

pub(super) fn write(data: &Data) -> anyhow::Result<String> {
    let name = data.images.last().map_or("", |image| image.name.as_str());
    let parts = [
        ("{{style-digest}}", source(STYLE)),
        ("{{script-digest}}", source(SCRIPT)),
        ("{{title}}", escaped(name)),
        ("{{version}}", env!("CARGO_PKG_VERSION").to_owned()),
        ("{{style}}", STYLE.to_owned()),
        ("{{script}}", SCRIPT.to_owned()),
        ("{{data}}", json(data)?),
    ];
    // From the first to the last, so that nothing in the data is taken for a place in the page.
    let mut page = String::new();
    let mut rest = PAGE;
    while let Some(start) = rest.find("{{") {
        let (before, place) = rest.split_at(start);
        page.push_str(before);
        let part = parts.iter().find(|(name, _)| place.starts_with(name));
        let (name, text) = part.map_or(("{{", "{{"), |(name, text)| (*name, text.as_str()));
        page.push_str(text);
        rest = &place[name.len()..];
    }
    page.push_str(rest);
    Ok(page)
}

/// How a policy names a script or a style (Content Security Policy 3, 2.3.1).
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// JSON that cannot end the element it is in, and holds nothing that an editor or a browser may read otherwise.
fn json(data: &Data) -> anyhow::Result<String> {
    let text = serde_json::to_string(data)?;
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '<' | '>' | '&') || steers_terminal(character) {
            escaped.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(character);
        }
    }
    Ok(escaped)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
