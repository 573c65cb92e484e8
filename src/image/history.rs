//! Lines of a configuration's history (image specification, config.md, "history"). Of those that say nothing of
//! `empty_layer` there are as many as there are layers, or whoever counts them goes wrong.

use super::document::Object;

/// Whether a line is a layer's.
pub(crate) fn is_of_layer(line: &Object) -> bool {
    line.get("empty_layer").is_none_or(|empty| empty.get() != "true")
}

/// Adds lines for layers that have none.
pub(crate) fn pad(lines: &mut Vec<Object>, layers: usize) {
    let known = lines.iter().filter(|line| is_of_layer(line)).count();
    lines.extend((known..layers).map(|_| {
        let mut line = Object::default();
        line.set("comment", "layer without a history");
        line
    }));
}

/// A line; what is not known is left out.
pub(crate) fn line(created: Option<&str>, created_by: Option<&str>, comment: Option<&str>) -> Object {
    let mut line = Object::default();
    for (name, value) in [("created", created), ("created_by", created_by), ("comment", comment)] {
        if let Some(value) = value {
            line.set(name, value);
        }
    }
    line
}
