//! Glob patterns for paths and names, in the syntax of the shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Some patterns; a name matches if any of them does.
#[derive(Debug, Clone, Default)]
pub struct Globs(Option<Arc<Patterns>>);

#[derive(Debug)]
struct Patterns {
    set: GlobSet,
    /// As they were given, each with whether something matched it.
    given: Vec<(String, AtomicBool)>,
    /// Whether something matched each of them.
    all_matched: AtomicBool,
    /// How much was left out for them.
    left_out: AtomicU64,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{pattern:?} is not a pattern: {problem}; a backslash escapes the next character")]
pub struct GlobError {
    pattern: String,
    problem: String,
}

impl Globs {
    /// Patterns for whole paths from the root, with or without a leading slash. `*` and `?` stay within one component,
    /// `**` is any number of them: `usr/share/doc/*`, `**/__pycache__`.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn paths<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, GlobError> {
        let trimmed = |pattern: &'a str| pattern.trim_start_matches('/').trim_end_matches('/');
        Self::new(patterns.into_iter().map(trimmed), true)
    }

    /// Patterns for names of extended attributes: `security.*`.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn names<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, GlobError> {
        Self::new(patterns, false)
    }

    fn new<'a>(patterns: impl IntoIterator<Item = &'a str>, components: bool) -> Result<Self, GlobError> {
        let mut set = GlobSetBuilder::new();
        let mut given = Vec::new();
        for pattern in patterns {
            let error =
                |problem: &dyn ToString| GlobError { pattern: pattern.to_owned(), problem: problem.to_string() };
            if pattern.is_empty() {
                return Err(error(&"it is empty"));
            }
            let glob = GlobBuilder::new(pattern).literal_separator(components).backslash_escape(true).build();
            set.add(glob.map_err(|problem| error(problem.kind()))?);
            given.push((pattern.to_owned(), AtomicBool::new(false)));
        }
        if given.is_empty() {
            return Ok(Self(None));
        }
        let set = set.build().map_err(|problem| GlobError {
            pattern: problem.glob().unwrap_or_default().to_owned(),
            problem: problem.kind().to_string(),
        })?;
        Ok(Self(Some(Arc::new(Patterns {
            set,
            given,
            all_matched: AtomicBool::new(false),
            left_out: AtomicU64::new(0),
        }))))
    }

    /// Whether there are none: then nothing matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether any of them matches all of a name.
    pub fn matches(&self, name: &[u8]) -> bool {
        let Some(patterns) = &self.0 else { return false };
        let name = Path::new(OsStr::from_bytes(name));
        if patterns.all_matched.load(Ordering::Relaxed) {
            return patterns.set.is_match(name);
        }
        let matched = patterns.set.matches(name);
        for &index in &matched {
            patterns.given[index].1.store(true, Ordering::Relaxed);
        }
        if !matched.is_empty() {
            let all = patterns.given.iter().all(|(_, matched)| matched.load(Ordering::Relaxed));
            patterns.all_matched.store(all, Ordering::Relaxed);
        }
        !matched.is_empty()
    }

    /// Remembers, for these patterns and their clones, how many names were left out for them.
    pub(crate) fn count_left_out(&self, names: u64) {
        if let Some(patterns) = &self.0 {
            patterns.left_out.fetch_add(names, Ordering::Relaxed);
        }
    }

    /// How many names were left out of layers that were written anew: those that a pattern matches, and what is below.
    pub fn left_out(&self) -> u64 {
        self.0.as_ref().map_or(0, |patterns| patterns.left_out.load(Ordering::Relaxed))
    }

    /// The patterns that nothing has matched yet, of all that these patterns and their clones were asked for.
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        let given = self.0.iter().flat_map(|patterns| &patterns.given);
        given.filter(|(_, matched)| !matched.load(Ordering::Relaxed)).map(|(pattern, _)| pattern.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_know_components() {
        let matches = |pattern: &str, path: &[u8]| Globs::paths([pattern]).unwrap().matches(path);
        assert!(matches("usr/share/doc/*", b"usr/share/doc/x"));
        assert!(matches("/usr/share/doc/", b"usr/share/doc"));
        assert!(!matches("usr/share/doc/*", b"usr/share/doc/x/y"));
        assert!(!matches("doc", b"usr/share/doc"));
        assert!(matches("**/*.pyc", b"a.pyc"));
        assert!(matches("**/*.pyc", b"a/b/\xff.pyc"));
        assert!(matches("{a,b}[0-9]", b"b7"));
        assert!(matches(r"\*", b"*"));
        assert!(!Globs::default().matches(b""));
        assert!(Globs::names(["security.*"]).unwrap().matches(b"security.capability"));
    }

    #[test]
    fn patterns_that_nothing_matches_are_known() {
        let globs = Globs::paths(["/usr/share/doc", "*.pyc"]).unwrap();
        let clone = globs.clone();
        assert_eq!(globs.unmatched().collect::<Vec<_>>(), ["usr/share/doc", "*.pyc"]);
        assert!(clone.matches(b"a.pyc") && !clone.matches(b"usr"));
        assert_eq!(globs.unmatched().collect::<Vec<_>>(), ["usr/share/doc"]);
        assert!(clone.matches(b"usr/share/doc") && clone.matches(b"b.pyc") && !clone.matches(b"x"));
        assert_eq!(globs.unmatched().count() + Globs::default().unmatched().count(), 0);
    }

    #[test]
    fn a_pattern_that_cannot_be_read_says_so() {
        assert!(Globs::paths(["a[b"]).unwrap_err().to_string().contains("\"a[b\" is not a pattern"));
        assert!(Globs::paths(["/"]).unwrap_err().to_string().contains("empty"));
    }
}
