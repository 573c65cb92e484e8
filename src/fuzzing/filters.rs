//! Patterns.

use crate::core::filter::Globs;
use crate::inspect::Pattern;

/// A pattern and a path, separated by NUL: what a pattern without special characters matches is itself.
pub fn globs(input: &[u8]) {
    let [pattern, path] = crate::core::text::parts(input);
    let Ok(text) = std::str::from_utf8(pattern) else { return };
    if let Ok(globs) = Globs::paths([text]) {
        let matches = globs.matches(path);
        let is_plain =
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        let is_normal = is_plain && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(!is_normal || globs.matches(pattern), "{text:?} does not match itself");
        assert!(!is_normal || !matches || path.starts_with(pattern), "{text:?} matches {path:?}");
    }
    let _ = Globs::names([text]).map(|globs| globs.matches(path));
    let _ = Pattern::globs([text]);
}
