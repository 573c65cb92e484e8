//! A code quality report (GitLab Docs, "Code Quality", report format): a JSON array, each finding with a fingerprint
//! of its own.

use layflat::core::text::Printable;
use layflat::inspect::check::Severity;
use serde_json::{Value, json};

use super::Verdict;

pub(super) fn document(verdict: &Verdict<'_>) -> Value {
    let problems = verdict.problems.iter().zip(verdict.fingerprints());
    let finding = |(problem, fingerprint): (&super::Problem, String)| {
        let severity = match problem.severity {
            Severity::Error => "critical",
            Severity::Warning => "major",
            Severity::Note => "info",
        };
        let fix = verdict.rule(problem).map(|rule| format!(". To fix it: {}", rule.fix)).unwrap_or_default();
        // A path is required, and has to be relative.
        let path = match (&problem.path, &problem.place) {
            (Some(path), _) if !path.is_empty() => Printable(path).to_string(),
            (_, Some(place)) => Printable(place.as_bytes()).to_string(),
            _ => verdict.image.clone(),
        };
        json!({
            "description": format!("{}{fix}", problem.message()),
            "check_name": problem.rule,
            "fingerprint": fingerprint,
            "severity": severity,
            "location": {"path": path, "lines": {"begin": problem.line.unwrap_or(1)}},
        })
    };
    problems.map(finding).collect()
}
