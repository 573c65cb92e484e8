//! What an image says of its layers, once some of them are in parts.

use crate::core::chain::{Cause, Context};
use crate::core::digest::Digest;
use crate::image::document::Object;
use crate::image::{Config, Layer, Manifest, history};
use crate::unpack::Error;

/// The configuration with the DiffIDs of the parts, and with a line of history for each: the layer's, with a comment that
/// says which part it is. `counts` has the number of parts of each layer.
pub(super) fn in_parts(config: &Config, counts: &[usize], layers: &[Layer]) -> Result<Config, Error> {
    let wrong = |error: Cause| Error::Product(Context::new("the image's configuration", error).into());
    let diff_ids: Vec<Digest> = layers.iter().filter_map(|layer| layer.diff_id.clone()).collect();
    let config = config.with_diff_ids(&diff_ids).map_err(|error| wrong(error.into()))?;
    let mut document = Object::parse(&config.bytes).map_err(|error| wrong(error.into()))?;
    let lines = document.objects("history");
    if !lines.is_empty() {
        document.set("history", &repeated(lines, counts));
    }
    Config::parse(document.to_bytes()).map_err(|error| wrong(error.into()))
}

fn repeated(lines: Vec<Object>, counts: &[usize]) -> Vec<Object> {
    let mut counts = counts.iter();
    let mut written = Vec::new();
    for line in lines {
        let count = if history::is_of_layer(&line) { counts.next().copied().unwrap_or(1) } else { 1 };
        if count == 1 {
            written.push(line);
            continue;
        }
        let own = line.string("comment").filter(|comment| !comment.is_empty());
        for part in 1..=count {
            let mut line = line.clone();
            let comment = match &own {
                Some(own) => format!("{own}, part {part} of {count}"),
                None => format!("part {part} of {count}"),
            };
            line.set("comment", &comment);
            written.push(line);
        }
    }
    written
}

/// The manifest without its words on layers that are in parts; whoever stores the image completes it. It keeps its
/// digest, by which an index knows the image that is replaced.
pub(super) fn manifest_in_parts(manifest: &Manifest, counts: &[usize]) -> Manifest {
    let Ok(mut document) = Object::parse(&manifest.bytes) else { return manifest.clone() };
    let mut layers = Vec::new();
    for (layer, &count) in document.objects("layers").into_iter().zip(counts) {
        match count {
            1 => layers.push(layer),
            _ => layers.extend((0..count).map(|_| Object::default())),
        }
    }
    document.set("layers", &layers);
    Manifest { bytes: document.to_bytes(), ..manifest.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_has_a_line_for_every_part() {
        let text = r#"{"history":[{"created_by":"base","x":1.0},{"created_by":"ENV","empty_layer":true},{"created_by":"b","comment":"c"},{"created_by":"top"}]}"#;
        let lines = Object::parse(text.as_bytes()).unwrap().objects("history");
        let written = String::from_utf8(serde_json::to_vec(&repeated(lines, &[2, 3, 1])).unwrap()).unwrap();
        let expected = r#"[{"created_by":"base","x":1.0,"comment":"part 1 of 2"},{"created_by":"base","x":1.0,"comment":"part 2 of 2"},{"created_by":"ENV","empty_layer":true},{"created_by":"b","comment":"c, part 1 of 3"},{"created_by":"b","comment":"c, part 2 of 3"},{"created_by":"b","comment":"c, part 3 of 3"},{"created_by":"top"}]"#;
        assert_eq!(written, expected);
    }
}
