//! Filter options: what to exclude or change.

use std::sync::OnceLock;

use anyhow::{Context, bail};
use clap::Args;
use layflat::core::filter::{Filter, Globs, Times};

use super::arguments::Common;
use super::output;

/// Stands for an option without a value: the environment has it.
const FROM_ENVIRONMENT: &str = "";
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What to exclude or change.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Exclude matching paths, directories recursively: `usr/share/doc/*`, `**/__pycache__`. Repeatable
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// With --exclude: also exclude whiteouts (`.wh.NAME`); files that they deleted reappear
    #[arg(long, hide_short_help = true, requires = "exclude")]
    force: bool,
    /// Set the owner of all files
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    owner: Option<(u32, u32)>,
    /// Remove extended attributes whose names match, like `security.*`. Repeatable
    #[arg(long, value_name = "GLOB")]
    strip_xattrs: Vec<String>,
    /// Set all timestamps to SECONDS since 1970 [default: the environment variable SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = FROM_ENVIRONMENT)]
    normalize_timestamps: Option<String>,
    /// Set later timestamps to SECONDS, like tar's --clamp-mtime [default: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = FROM_ENVIRONMENT)]
    #[arg(conflicts_with = "normalize_timestamps")]
    clamp_timestamps: Option<String>,
    /// The filter that was made of them, which knows what was matched.
    #[arg(skip)]
    made: OnceLock<Filter>,
}

impl FilterArgs {
    /// The library's filter.
    pub(crate) fn filter(&self) -> anyhow::Result<Filter> {
        let times = match (&self.normalize_timestamps, &self.clamp_timestamps) {
            (Some(text), _) => Some(Times::Set(seconds("--normalize-timestamps", text)?)),
            (None, Some(text)) => Some(Times::Clamp(seconds("--clamp-timestamps", text)?)),
            (None, None) => None,
        };
        let filter = Filter {
            exclude: Globs::paths(self.exclude.iter().map(String::as_str)).context("--exclude")?,
            exclude_whiteouts: self.force,
            owner: self.owner,
            times,
            strip_xattrs: Globs::names(self.strip_xattrs.iter().map(String::as_str)).context("--strip-xattrs")?,
        };
        Ok(self.made.get_or_init(|| filter).clone())
    }

    /// How many names they left out of layers that were written anew.
    pub(crate) fn left_out(&self) -> u64 {
        self.made.get().map_or(0, |filter| filter.exclude.left_out())
    }

    /// Says which patterns left nothing out: most likely they are not what was meant.
    pub(crate) fn say_idle(&self, common: &Common) {
        let Some(filter) = self.made.get() else { return };
        for (option, globs) in [("--exclude", &filter.exclude), ("--strip-xattrs", &filter.strip_xattrs)] {
            for pattern in globs.unmatched() {
                output::note(common, format_args!("{option} {pattern:?} left nothing out"), None);
            }
        }
    }
}

fn seconds(argument: &str, text: &str) -> anyhow::Result<i64> {
    if text != FROM_ENVIRONMENT {
        return text.parse().with_context(|| format!("{argument}={text}: expected seconds since 1970"));
    }
    match epoch()? {
        Some(seconds) => Ok(seconds),
        None => bail!("{argument} needs a time: write {argument}=SECONDS, or set {EPOCH}"),
    }
}

/// The time that the environment gives to whatever is made (reproducible-builds.org).
pub(super) fn epoch() -> anyhow::Result<Option<i64>> {
    match std::env::var(EPOCH) {
        Ok(text) => text.parse().map(Some).with_context(|| format!("{EPOCH}={text:?}: expected seconds since 1970")),
        Err(_) => Ok(None),
    }
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let id = |text: &str| text.parse().ok().filter(|&id| id != u32::MAX);
    let owner = text.split_once(':').and_then(|(uid, gid)| Some((id(uid)?, id(gid)?)));
    owner.ok_or_else(|| format!("{text:?}: expected UID:GID, two numbers of at most 4294967294"))
}
