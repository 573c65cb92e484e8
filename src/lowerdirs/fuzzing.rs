//! See [`crate::fuzzing`].

use std::path::{Component, Path};

use super::read::parse;

/// A description leads nowhere but below its own directory, and means the same when it is written.
pub(crate) fn description(input: &[u8]) {
    let path = Path::new("/form/layflat.json");
    let Ok(layout) = parse(input, path) else { return };
    let is_below = |name: &String| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    assert!(layout.lowerdir.iter().all(is_below), "{layout:?}");
    assert_eq!(parse(&layout.to_json(), path).ok(), Some(layout));
}
