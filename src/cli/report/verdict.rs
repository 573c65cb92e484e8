//! Whether the image is as it should be, in a sentence each: the head of a report.

use layflat::inspect::check::{Finding, Severity};
use layflat::inspect::{Pattern, Traced, Waste};
use serde::Serialize;

use super::super::gate::{FailOn, WasteSettings};
use super::super::table::{bytes, counted};
use super::super::waste::{Most, share};

/// Percent of wasted content from which on it is worth a look, and too much, where the repository has no rule.
const SOME: f64 = 5.0;
const MUCH: f64 = 20.0;

/// What is thought of one thing.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) is: Grade,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    Good,
    Warn,
    Bad,
}

impl Grade {
    /// As one character, for text without colours.
    pub(super) fn mark(self) -> char {
        match self {
            Self::Good => '✅',
            Self::Warn => '⚠',
            Self::Bad => '❌',
        }
    }
}

/// By the limits of `.layflat.toml`, or else by what is usual.
pub(super) fn of_waste(traced: &Traced<'_>, all: &Waste, settings: &WasteSettings) -> anyhow::Result<Verdict> {
    let ignored: Vec<&str> = settings.ignore.iter().map(String::as_str).collect();
    let ignored = (!ignored.is_empty()).then(|| Pattern::globs(ignored)).transpose()?;
    let without = ignored.as_ref().map(|ignored| traced.waste(Some(ignored)));
    let waste = without.as_ref().unwrap_or(all);
    let share = share(waste);
    let most = Most::of(settings);
    let facts = format!("{} of {} wasted ({share:.1} %)", bytes(waste.wasted()), bytes(waste.shipped()));
    // As it stands in the file, and not as an option.
    let broken = most.broken_by(waste).into_iter().map(|(_, text)| text.replace(" of --", " of "));
    let broken: Vec<String> = broken.map(|text| format!("{text} in .layflat.toml")).collect();
    let (is, text) = match () {
        () if !broken.is_empty() => (Grade::Bad, broken.join("; ")),
        () if most.is_set() => (Grade::Good, format!("{facts}, within the limits of .layflat.toml")),
        () if share < SOME => (Grade::Good, facts),
        () if share < MUCH => (Grade::Warn, facts),
        () => (Grade::Bad, facts),
    };
    Ok(Verdict { is, text })
}

/// By the severity from which on `check` fails.
pub(super) fn of_findings(findings: &[Finding], fail_on: Option<FailOn>) -> Verdict {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let fails = fail_on.unwrap_or(FailOn::Error).severity();
    let is = match findings.iter().map(|finding| finding.severity).min() {
        // The worst comes first.
        Some(worst) if worst <= fails => Grade::Bad,
        Some(Severity::Error | Severity::Warning) => Grade::Warn,
        Some(Severity::Note) | None => Grade::Good,
    };
    let counts = [
        (Severity::Error, "error", "errors"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Note, "note", "notes"),
    ];
    let counts = counts.map(|(severity, one, many)| counted(count(severity), one, many));
    Verdict { is, text: format!("check: {}", counts.join(", ")) }
}
