//! The runtime configuration, as a text.

use super::place::Place;

type Test = (&'static str, fn(&Place));

pub(crate) const TESTS: &[Test] = &[];
