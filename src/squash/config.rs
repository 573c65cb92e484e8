//! The configuration of a rewritten image: its DiffIDs, its history, its times. All else stays, also what layflat does
//! not know.

use crate::core::chain::{Cause, Context};
use crate::core::digest::Digest;
use crate::core::filter::Times;
use crate::core::text::Timestamp;
use crate::image::document::Object;
use crate::image::{Config, Layer, history};
use crate::unpack::Error;

/// The configuration for new layers in the place of old ones. Of the history's lines those whose layers were squashed
/// stay, as lines without a layer, and one more says what was done (image specification, config.md, "history").
pub(super) fn rewritten(
    config: &Config,
    squash_from: Option<usize>,
    old: &[Layer],
    new: &[Layer],
    times: Option<Times>,
) -> Result<Config, Error> {
    let wrong = |error: Cause| Error::Product(Context::new("the image's configuration", error).into());
    let diff_ids: Vec<Digest> = new.iter().filter_map(|layer| layer.diff_id.clone()).collect();
    let config = config.with_diff_ids(&diff_ids).map_err(|error| wrong(error.into()))?;
    let mut document = Object::parse(&config.bytes).map_err(|error| wrong(error.into()))?;
    if let Some(from) = squash_from {
        let lines = squashed(document.objects("history"), from, old.len(), document.string("created"));
        document.set("history", &lines);
    }
    if let Some(times) = times {
        change_created(&mut document, times).map_err(|error| wrong(error.into()))?;
        let mut history = document.objects("history");
        if !history.is_empty() {
            for line in &mut history {
                change_created(line, times).map_err(|error| wrong(error.into()))?;
            }
            document.set("history", &history);
        }
    }
    Config::parse(document.to_bytes()).map_err(|error| wrong(error.into()))
}

/// The history after layers from `from` on became one.
fn squashed(mut lines: Vec<Object>, from: usize, layers: usize, created: Option<String>) -> Vec<Object> {
    let mut layer = 0;
    for line in &mut lines {
        if history::is_of_layer(line) {
            if layer >= from {
                line.set("empty_layer", &true);
            }
            layer += 1;
        }
    }
    history::pad(&mut lines, from);
    let what = match layers - from {
        1 => format!("layer {from}, written anew"),
        count => format!("layers {from} to {} as one ({count} of {layers})", layers - 1),
    };
    lines.push(history::line(created.as_deref(), Some("layflat squash"), Some(&what)));
    lines
}

fn change_created(document: &mut Object, times: Times) -> Result<(), jiff::Error> {
    if let Some(created) = document.string("created") {
        document.set("created", &changed(&created, times)?);
    }
    Ok(())
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
        let objects =
            |text: &str| Object::parse(format!(r#"{{"lines":[{text}]}}"#).as_bytes()).unwrap().objects("lines");
        let history = || {
            objects(
                r#"{"created_by":"base"},{"created_by":"ENV","empty_layer":true},{"created_by":"a","x":1.0},{"Created_By":"b"}"#,
            )
        };
        let written = |lines: &[Object]| String::from_utf8(serde_json::to_vec(lines).unwrap()).unwrap();
        let with_layer = |lines: &[Object]| lines.iter().filter(|line| line.get("empty_layer").is_none()).count();

        let lines = squashed(history(), 1, 3, Some("2024-01-01T00:00:00Z".into()));
        let expected = r#"[{"created_by":"base"},{"created_by":"ENV","empty_layer":true},{"created_by":"a","x":1.0,"empty_layer":true},{"Created_By":"b","empty_layer":true},{"created":"2024-01-01T00:00:00Z","created_by":"layflat squash","comment":"layers 1 to 2 as one (2 of 3)"}]"#;
        assert_eq!(written(&lines), expected);
        assert_eq!(with_layer(&squashed(history(), 0, 3, None)), 1);
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
