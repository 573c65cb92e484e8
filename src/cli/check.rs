//! `layflat check`

use std::ffi::OsString;

use anyhow::Context;
use clap::Args;
use layflat::Cancel;
use layflat::image::Image;
use layflat::inspect::check::{CheckOptions, Finding, Rule, SecretKind, Severity, check, of_source_error};
use layflat::transport::source::{self, OpenOptions, open};
use serde::Serialize;
use serde_json::json;

use super::arguments::{Common, OpenArgs};
use super::gate::{FailOn, Format, GateArgs, Ignore, Problem, RuleFacts, Verdict};
use super::output::{Colour, painted};
use super::table::{columns, counted};
use super::{FAILURE, SUCCESS, output, progress};

/// Validate an image; find secrets in files, deleted files and the configuration
///
/// Checks digests, sizes, media types, history and configuration. Reports entries that cannot be unpacked, dangling
/// links, whiteouts that delete nothing, names that occur twice in a layer, and secrets: private keys and tokens in files
/// of the final image and in files that a later layer deletes, in environment variables, labels, commands and the
/// history. No value is printed whole. Exits with 0 without errors, 1 with errors (--fail-on), 2 if the image cannot be
/// checked.
#[derive(Debug, Args)]
#[command(after_help = "Examples
  layflat check --fail-on warning app.tar
  layflat check --format sarif app.tar > layflat.sarif
  layflat check --ignore 'visible-secret:/usr/share/**' --ignore jwt app.tar")]
pub(crate) struct Check {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE", required_unless_present = "list_rules")]
    image: Option<OsString>,
    /// Check only the manifest and the configuration; do not read layers
    #[arg(long)]
    fast: bool,
    /// Exit with 1 if there is a finding of this severity, or a worse one [default: error]
    #[arg(long, value_name = "SEVERITY", value_enum)]
    fail_on: Option<FailOn>,
    /// Do not report findings of this rule or kind of secret, or only those at paths that match (may be repeated)
    #[arg(long, value_name = "RULE[:GLOB]")]
    ignore: Vec<String>,
    /// Look for secrets; --secrets=false does not [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    secrets: Option<bool>,
    /// List all rules and kinds of secrets, with severity and meaning
    #[arg(long, conflicts_with_all = ["image", "fast", "fail_on", "ignore", "secrets", "format"])]
    list_rules: bool,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    open: OpenArgs,
}

/// A finding as `--json` has it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    /// The rule's name again, under the field's first name.
    kind: Rule,
    fix: &'static str,
}

impl Check {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let Some(image) = self.image.as_ref().filter(|_| !self.list_rules) else {
            list_rules(common)?;
            return Ok(SUCCESS);
        };
        let format = self.gate.format(common)?;
        let settings = self.gate.settings()?.check;
        let ignore = Ignore::parse(settings.ignore.iter().chain(&self.ignore))?;
        let secrets = self.secrets.or(settings.secrets).unwrap_or(true);
        let fail_on = self.fail_on.or(settings.fail_on).unwrap_or(FailOn::Error);
        let (layers, mut findings) = match self.open(image, cancel)? {
            Ok(image) => {
                let options = self.open.options(cancel)?;
                let progress = progress::progress(common);
                let what = CheckOptions { fast: self.fast, secrets };
                (Some(image.layers.len()), check(&image, what, &options, progress.as_ref())?)
            }
            Err(finding) => (None, vec![finding]),
        };
        let found = findings.len();
        findings.retain(|finding| !ignore.covers(finding));
        let ignored = found - findings.len();
        match format {
            Format::Json => {
                let line = |finding| Line { finding, kind: finding.rule, fix: finding.rule.fix() };
                output::json_lines(findings.iter().map(line))?;
            }
            Format::Text if common.quiet => {}
            Format::Text => {
                output::lines(columns(&findings.iter().map(row).collect::<Vec<_>>(), &[]))?;
                how_to_fix(common, &findings);
            }
            format => verdict(image, &findings)?.print(format)?,
        }
        output::say(common, self.summary(layers, &findings, ignored));
        // The worst comes first.
        let sound = findings.iter().all(|finding| finding.severity > fail_on.severity());
        Ok(if sound { SUCCESS } else { FAILURE })
    }

    fn summary(&self, layers: Option<usize>, findings: &[Finding], ignored: usize) -> String {
        let counted = |count: usize, one: &str| counted(count as u64, one, &format!("{one}s"));
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let checked = match layers {
            Some(layers) => format!("{} {}", counted(layers, "layer"), if self.fast { "not read" } else { "read" }),
            None => "cannot be opened".to_owned(),
        };
        let counts = [Severity::Error, Severity::Warning, Severity::Note]
            .map(|severity| counted(count(severity), severity.name()));
        let ignored = if ignored > 0 { format!(", {ignored} ignored") } else { String::new() };
        format!("{checked}: {}{ignored}", counts.join(", "))
    }

    /// Opens the image, as far as it can be; or says what is wrong with it.
    fn open(&self, image: &OsString, cancel: &Cancel) -> anyhow::Result<Result<Image, Finding>> {
        let reference = source::reference(image)?;
        let options = OpenOptions { incomplete: true, ..self.open.open_options(cancel)? };
        match open(&reference, &options) {
            Ok(image) => Ok(Ok(image)),
            Err(error) => match of_source_error(&error) {
                Some(finding) => Ok(Err(finding)),
                None => Err(error).with_context(|| format!("cannot open {reference}")),
            },
        }
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let severity = match finding.severity {
        Severity::Error => painted("error", Colour::Red),
        Severity::Warning => painted("warning", Colour::Yellow),
        Severity::Note => "note".to_owned(),
    };
    let layer = finding.layer.map_or("image".to_owned(), |layer| format!("layer {layer}"));
    let text = match (&finding.path, finding.line) {
        (Some(path), Some(line)) => format!("{path}: line {line}: {}", finding.text),
        (Some(path), None) => format!("{path}: {}", finding.text),
        (None, _) => finding.text.clone(),
    };
    vec![severity, layer, finding.rule.name().to_owned(), output::one_line(&text)]
}

/// One line for each rule that was broken in earnest.
fn how_to_fix(common: &Common, findings: &[Finding]) {
    let broken = |rule: &Rule| findings.iter().any(|found| found.rule == *rule && found.severity < Severity::Note);
    for rule in Rule::ALL.iter().filter(|rule| broken(rule)) {
        output::say(common, format_args!("to fix {}: {}", rule.name(), rule.fix()));
    }
}

/// The same for CI systems.
fn verdict(image: &OsString, findings: &[Finding]) -> anyhow::Result<Verdict<'static>> {
    static RULES: std::sync::LazyLock<Vec<RuleFacts>> = std::sync::LazyLock::new(|| {
        let facts = |rule: &Rule| RuleFacts {
            name: rule.name(),
            severity: rule.severity(),
            meaning: rule.meaning(),
            fix: rule.fix(),
        };
        Rule::ALL.iter().map(facts).collect()
    });
    let problem = |finding: &Finding| Problem {
        rule: finding.rule.name(),
        severity: finding.severity,
        kind: finding.secret.map_or("", SecretKind::name),
        layer: finding.layer,
        path: finding.path.as_ref().map(|path| path.as_bytes().to_vec()),
        place: finding.place.clone(),
        line: finding.line,
        text: finding.text.clone(),
    };
    Ok(Verdict {
        image: output::one_line(&source::reference(image)?.to_string()),
        rules: &RULES,
        problems: findings.iter().map(problem).collect(),
    })
}

/// What `check` can find.
fn list_rules(common: &Common) -> anyhow::Result<()> {
    if common.json {
        let rules = Rule::ALL.iter().map(|rule| {
            json!({
                "rule": rule, "severity": rule.severity(), "meaning": rule.meaning(), "fix": rule.fix(),
            })
        });
        let secrets = SecretKind::all().map(|kind| {
            json!({"secret": kind, "severity": kind.severity(), "meaning": kind.what(), "source": kind.source()})
        });
        return output::json_lines(rules.chain(secrets));
    }
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["rule", "at worst", "meaning"])];
    rows.extend(Rule::ALL.iter().map(|rule| row([rule.name(), rule.severity().name(), rule.meaning()])));
    let mut lines = columns(&rows, &[]);
    lines.push(String::new());
    let mut rows = vec![row(["secret", "at worst", "what it is, and whose document defines it"])];
    rows.extend(
        SecretKind::all()
            .map(|kind| row([kind.name(), kind.severity().name(), &format!("{}; {}", kind.what(), kind.source())])),
    );
    lines.extend(columns(&rows, &[]));
    output::lines(lines)
}
