//! The configuration of a rewritten image: its DiffIDs, its history, its times. All else stays, also what layflat does not know.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::filter::Times;
use crate::image::{Config, Layer};
use crate::layer::Timestamp;

/// The configuration for new layers in the place of old ones. Of the history's lines those whose layers were squashed stay, as lines
/// without a layer, and one more says what was done (image specification, config.md, "history").
pub(super) fn rewritten(
    config: &Config,
    squash_from: Option<usize>,
    old: &[Layer],
    new: &[Layer],
    times: Option<Times>,
) -> Result<Config, Error> {
    let wrong = |error: &dyn ToString| Error::Write(format!("the image's configuration: {}", error.to_string()));
    let mut document: Map<String, Value> = serde_json::from_slice(&config.bytes).map_err(|error| wrong(&error))?;
    let diff_ids: Vec<String> =
        new.iter().filter_map(|layer| layer.diff_id.as_ref()).map(ToString::to_string).collect();
    document.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
    if let Some(from) = squash_from {
        let created = document.get("created").filter(|created| created.is_string()).cloned();
        let history = match document.remove("history") {
            Some(Value::Array(lines)) => lines,
            _ => Vec::new(),
        };
        document.insert("history".to_owned(), squashed(history, from, old.len(), created).into());
    }
    if let Some(times) = times {
        let mut fields: Vec<&mut Map<String, Value>> = Vec::new();
        let (history, rest): (Vec<_>, Vec<_>) = document.iter_mut().partition(|(key, _)| *key == "history");
        for (_, lines) in history {
            fields.extend(lines.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut));
        }
        let own = rest.into_iter().filter(|(key, _)| *key == "created").map(|(_, value)| value);
        let of_lines = fields.into_iter().filter_map(|line| line.get_mut("created"));
        for created in own.chain(of_lines).filter(|created| created.is_string()) {
            *created = changed(created.as_str().unwrap_or_default(), times).map_err(|error| wrong(&error))?.into();
        }
    }
    let bytes = serde_json::to_vec(&document).map_err(|error| wrong(&error))?;
    Config::parse(bytes).map_err(|error| wrong(&error))
}

/// The history after layers from `from` on became one.
fn squashed(history: Vec<Value>, from: usize, layers: usize, created: Option<Value>) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut layer = 0;
    for mut line in history {
        if let Some(fields) = line.as_object_mut()
            && fields.get("empty_layer") != Some(&Value::Bool(true))
        {
            if layer >= from {
                fields.insert("empty_layer".to_owned(), true.into());
            }
            layer += 1;
        }
        lines.push(line);
    }
    // As many lines with a layer as there are layers, or whoever counts them goes wrong.
    lines.extend((layer..from).map(|_| json!({"comment": "layer without a history"})));
    let what = match layers - from {
        1 => format!("layer {from}, written anew"),
        count => format!("layers {from} to {} as one ({count} of {layers})", layers - 1),
    };
    let mut line = json!({"created_by": "layflat squash", "comment": what});
    if let (Some(created), Some(fields)) = (created, line.as_object_mut()) {
        fields.insert("created".to_owned(), created);
    }
    lines.push(line);
    lines
}

/// A time as RFC 3339 has it, changed as files' times are.
fn changed(text: &str, times: Times) -> Result<String, jiff::Error> {
    let time: jiff::Timestamp = text.parse()?;
    // jiff counts both towards zero.
    let nanoseconds = time.subsec_nanosecond();
    let seconds = time.as_second() - i64::from(nanoseconds < 0);
    let time = Timestamp { seconds, nanoseconds: nanoseconds.rem_euclid(1_000_000_000).unsigned_abs() };
    let Timestamp { seconds, nanoseconds } = times.apply(time);
    let nanosecond = i32::try_from(nanoseconds).unwrap_or_default();
    Ok(jiff::Timestamp::new(seconds, nanosecond)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_has_a_line_for_every_layer() {
        let line = |text: &str| json!({"created_by": text});
        let empty = |text: &str| json!({"created_by": text, "empty_layer": true});
        let history = vec![line("base"), empty("ENV"), line("a"), line("b")];
        let with_layer = |lines: &[Value]| lines.iter().filter(|line| line.get("empty_layer").is_none()).count();

        let lines = squashed(history.clone(), 1, 3, Some("2024-01-01T00:00:00Z".into()));
        assert_eq!(lines[..4], [line("base"), empty("ENV"), empty("a"), empty("b")]);
        let what = "layers 1 to 2 as one (2 of 3)";
        assert_eq!(
            lines[4],
            json!({"created_by": "layflat squash", "comment": what, "created": "2024-01-01T00:00:00Z"})
        );
        assert_eq!(with_layer(&squashed(history, 0, 3, None)), 1);
        assert_eq!(with_layer(&squashed(Vec::new(), 2, 3, None)), 3);
    }

    #[test]
    fn times_change_as_those_of_files() {
        let set = |text| changed(text, Times::Set(1_700_000_000)).unwrap();
        let clamp = |text| changed(text, Times::Clamp(1_700_000_000)).unwrap();
        assert_eq!(set("2024-02-03T04:05:06.789+02:00"), "2023-11-14T22:13:20Z");
        assert_eq!(clamp("2024-02-03T04:05:06.789Z"), "2023-11-14T22:13:20Z");
        assert_eq!(clamp("2020-02-03T04:05:06.5+02:00"), "2020-02-03T02:05:06.5Z");
        assert_eq!(clamp("1969-12-31T23:59:59.25Z"), "1969-12-31T23:59:59.25Z");
    }
}
