//! `layflat waste`

use bytesize::ByteSize;
use clap::Args;
use layflat::Cancel;
use layflat::core::text::Printable;
use layflat::inspect::check::Severity;
use layflat::inspect::{Pattern, Reason, Traced, WastedFile};
use layflat::transport::source;
use serde_json::{Value, json};

use super::arguments::{Common, LookArgs};
use super::gate::{Format, GateArgs, Problem, RuleFacts, Verdict, WasteSettings};
use super::output::{Colour, painted};
use super::table::{bytes, columns};
use super::{FAILURE, SUCCESS, output};

/// Show bytes that are shipped but replaced or deleted later, or duplicated
///
/// Lists files that later layers replace or delete, and files with the same content as another file, largest first.
/// Sizes are of the content before compression. Exits with 1 if --max-wasted or --max-wasted-percent is exceeded, 2 if
/// that cannot be told.
#[derive(Debug, Args)]
#[command(after_help = "Examples
  layflat waste --max-wasted 20MiB --max-wasted-percent 10 app.tar
  layflat waste --ignore '/var/lib/dpkg/**' --format github app.tar")]
pub(crate) struct Waste {
    #[command(flatten)]
    look: LookArgs,
    /// List the N largest files (0: all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Fail if more bytes are wasted than this: 1000000, 20MB, 20MiB
    #[arg(long, value_name = "SIZE")]
    max_wasted: Option<ByteSize>,
    /// Fail if more than N percent of all content is wasted
    #[arg(long, value_name = "N", value_parser = percent)]
    max_wasted_percent: Option<f64>,
    /// Do not count files that match: part of a name, or a whole path with a slash (may be repeated)
    #[arg(long, value_name = "GLOB")]
    ignore: Vec<String>,
    #[command(flatten)]
    gate: GateArgs,
}

/// What an image is allowed to waste.
pub(super) struct Most {
    bytes: Option<u64>,
    percent: Option<f64>,
}

/// The rules, for CI systems.
const RULES: [RuleFacts; 3] = [
    RuleFacts {
        name: "max-wasted",
        severity: Severity::Error,
        meaning: "More bytes are wasted than --max-wasted allows.",
        fix: FIX,
    },
    RuleFacts {
        name: "max-wasted-percent",
        severity: Severity::Error,
        meaning: "A larger part of the content is wasted than --max-wasted-percent allows.",
        fix: FIX,
    },
    RuleFacts {
        name: "wasted-file",
        severity: Severity::Note,
        meaning: "A file is shipped, and replaced, deleted or duplicated later.",
        fix: FIX,
    },
];
const FIX: &str = "delete files in the RUN that makes them, and copy into the last stage only what is used; `layflat report` says which steps to join";

impl Waste {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let format = self.gate.format(common)?;
        let settings = self.gate.settings()?.waste;
        let rules = Most::of(&settings);
        let most = Most {
            bytes: self.max_wasted.map(|size| size.as_u64()).or(rules.bytes),
            percent: self.max_wasted_percent.or(rules.percent),
        };
        let ignored: Vec<&str> = settings.ignore.iter().chain(&self.ignore).map(String::as_str).collect();
        let ignored = (!ignored.is_empty()).then(|| Pattern::globs(ignored));
        let looked = self.look.look(common, cancel)?;
        let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
        let waste = traced.waste(ignored.transpose()?.as_ref());
        let listed = if self.top == 0 { waste.files.len() } else { self.top.min(waste.files.len()) };
        let broken = most.broken_by(&waste);
        let code = if broken.is_empty() { SUCCESS } else { FAILURE };
        match format {
            Format::Text => text(&waste, listed, common)?,
            Format::Json => json_lines(&waste, listed)?,
            format => self.problems(&broken, &waste.files[..listed])?.print(format)?,
        }
        for (_, line) in broken {
            output::error(&anyhow::Error::msg(line));
        }
        Ok(code)
    }

    /// What was broken, and the files of which each wastes a part.
    fn problems(&self, broken: &[(&'static str, String)], files: &[WastedFile]) -> anyhow::Result<Verdict<'static>> {
        let new = |rule, severity, text| Problem {
            rule,
            severity,
            kind: "",
            layer: None,
            path: None,
            place: None,
            line: None,
            text,
        };
        let broken = broken.iter().map(|(rule, text)| new(*rule, Severity::Error, text.clone()));
        let files = files.iter().map(|file| Problem {
            layer: Some(file.layer),
            path: Some(file.path.as_bytes().to_vec()),
            ..new("wasted-file", Severity::Note, format!("{}, {}", bytes(file.bytes), file.reason))
        });
        Ok(Verdict {
            image: output::one_line(&source::reference(&self.look.image.image)?.to_string()),
            rules: &RULES,
            problems: broken.chain(files).collect(),
        })
    }
}

impl Most {
    /// As a repository's rules have it.
    pub(super) fn of(settings: &WasteSettings) -> Self {
        Self { bytes: settings.max_wasted.map(|size| size.as_u64()), percent: settings.max_wasted_percent }
    }

    /// Whether there is any limit.
    pub(super) fn is_set(&self) -> bool {
        self.bytes.is_some() || self.percent.is_some()
    }

    /// What the image does not keep to, one line for each.
    pub(super) fn broken_by(&self, waste: &layflat::inspect::Waste) -> Vec<(&'static str, String)> {
        let wasted = waste.wasted();
        let most = self.bytes.filter(|&most| wasted > most);
        let broken =
            most.map(|most| format!("{} are wasted, more than the {} of --max-wasted", bytes(wasted), bytes(most)));
        let share = share(waste);
        let percent = self.percent.filter(|&most| share > most);
        let percent =
            percent.map(|most| format!("{share:.1} % are wasted, more than the {most} % of --max-wasted-percent"));
        let broken = broken.map(|text| ("max-wasted", text)).into_iter();
        broken.chain(percent.map(|text| ("max-wasted-percent", text))).collect()
    }
}

/// The report for programs.
fn json_lines(waste: &layflat::inspect::Waste, listed: usize) -> anyhow::Result<()> {
    let tagged = |kind: &str, value: Value| {
        let mut tagged = json!({"kind": kind});
        if let (Some(tagged), Value::Object(fields)) = (tagged.as_object_mut(), value) {
            tagged.extend(fields);
        }
        tagged
    };
    let layers = waste.layers.iter().map(|layer| Ok(tagged("layer", serde_json::to_value(layer)?)));
    let files = waste.files[..listed].iter().map(|file| Ok(tagged("file", serde_json::to_value(file)?)));
    output::json_lines(layers.chain(files).collect::<Result<Vec<_>, serde_json::Error>>()?)
}

/// The report for people.
fn text(waste: &layflat::inspect::Waste, listed: usize, common: &Common) -> anyhow::Result<()> {
    let head = ["layer", "size", "wasted", "replaced", "deleted", "duplicated", "files", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for layer in &waste.layers {
        let created_by = layer.created_by.as_deref().unwrap_or_default();
        let sizes = [layer.shipped, layer.wasted, layer.replaced, layer.deleted, layer.duplicated];
        let mut row = vec![layer.layer.to_string()];
        row.extend(sizes.map(bytes));
        row.push(super::table::count(layer.files));
        row.push(Printable(created_by.as_bytes()).to_string());
        rows.push(row);
    }
    let mut lines = columns(&rows, &[0, 1, 2, 3, 4, 5, 6]);
    if listed > 0 {
        lines.push(String::new());
        let rows: Vec<Vec<String>> = waste.files[..listed].iter().map(row).collect();
        lines.extend(columns(&rows, &[0, 1]));
    }
    output::lines(lines)?;
    if listed < waste.files.len() {
        let more = super::table::count((waste.files.len() - listed) as u64);
        output::say(common, format_args!("{more} more: --top 0 lists all"));
    }
    let (shipped, wasted) = (waste.shipped(), waste.wasted());
    let share = share(waste);
    output::say(common, format_args!("wasted: {} of {} ({share:.1} %)", bytes(wasted), bytes(shipped)));
    Ok(())
}

/// How much of the content is wasted, in percent.
pub(super) fn share(waste: &layflat::inspect::Waste) -> f64 {
    match waste.shipped() {
        0 => 0.0,
        shipped => waste.wasted() as f64 * 100.0 / shipped as f64,
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().map_err(|error| error.to_string())?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("a percentage is from 0 to 100".to_owned()) }
}

fn row(file: &WastedFile) -> Vec<String> {
    let reason = match &file.reason {
        reason @ Reason::Replaced { .. } => painted(reason, Colour::Yellow),
        reason @ Reason::Deleted { .. } => painted(reason, Colour::Red),
        reason @ Reason::Duplicated { .. } => reason.to_string(),
    };
    vec![bytes(file.bytes), file.layer.to_string(), file.path.to_string(), reason]
}
