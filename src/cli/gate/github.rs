//! Annotations of GitHub Actions (GitHub Docs, "Workflow commands for GitHub Actions"): a line of standard output is a
//! command if it begins with `::`.

use std::borrow::Cow;

use layflat::inspect::check::Severity;

use super::Verdict;

/// One line for each problem, the worst first: GitHub shows ten of each level for a step.
pub(super) fn annotations(verdict: &Verdict<'_>) -> Vec<String> {
    let mut problems: Vec<_> = verdict.problems.iter().collect();
    problems.sort_by_key(|problem| problem.severity);
    let annotation = |problem: &&super::Problem| {
        let level = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let fix = verdict.rule(problem).map(|rule| format!(". To fix it: {}", rule.fix)).unwrap_or_default();
        let message = format!("{}: {}{fix}", verdict.image, problem.message());
        format!("::{level} title={}::{}", property(&format!("layflat: {}", problem.rule)), data(&message))
    };
    problems.iter().map(annotation).collect()
}

/// The text behind the second `::`.
fn data(text: &str) -> Cow<'_, str> {
    escaped(text, &['%', '\r', '\n'])
}

/// The value of a property, which also ends at `:` and `,`.
fn property(text: &str) -> Cow<'_, str> {
    escaped(text, &['%', '\r', '\n', ':', ','])
}

fn escaped<'t>(text: &'t str, special: &[char]) -> Cow<'t, str> {
    if !text.contains(special) {
        return text.into();
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if special.contains(&character) {
            escaped.push_str(&format!("%{:02X}", character as u32));
        } else {
            escaped.push(character);
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_command_is_escaped() {
        assert_eq!(data("100%\r\n::error::a,b"), "100%25%0D%0A::error::a,b");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
        assert_eq!(property("plain"), "plain");
    }
}
