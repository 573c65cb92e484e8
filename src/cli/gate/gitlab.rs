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
        let path = match path.trim_start_matches('/') {
            "" => ".",
            path => path,
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

#[cfg(test)]
mod tests {
    use super::super::Problem;
    use super::*;

    #[test]
    fn paths_are_relative() {
        let path = |image: &str, path: Option<&[u8]>| {
            let problem = Problem {
                rule: "rule",
                severity: Severity::Note,
                kind: "",
                layer: None,
                path: path.map(<[u8]>::to_vec),
                place: None,
                line: None,
                text: "text".to_owned(),
            };
            let document = document(&Verdict { image: image.to_owned(), rules: &[], problems: vec![problem] });
            document[0]["location"]["path"].as_str().unwrap().to_owned()
        };
        assert_eq!(path("/tmp/image.tar", None), "tmp/image.tar");
        assert_eq!(path("/tmp/image.tar", Some(&b"etc/key"[..])), "etc/key");
        assert_eq!(path("/tmp/image.tar", Some(&b"//etc/key"[..])), "etc/key");
        assert_eq!(path("/", None), ".");
    }
}
