//! `layflat find`

use clap::Args;
use layflat::Cancel;
use layflat::inspect::{Fate, Hit, InsideError, Pattern, Traced};

use super::arguments::{Common, LayerArg, LookArgs};
use super::output::{Colour, painted};
use super::table::{columns, counted};
use super::{FAILURE, SUCCESS, output};

/// Find files in any layer of an image
///
/// Prints the layer and the path of each match. --all-layers also finds files that a later layer replaced or deleted,
/// and names that layer. --layer finds in the image as of one layer, --changed-by what one layer adds, replaces or
/// deletes. Exits with 1 if nothing is found.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat find app.tar '*.so'
  layflat find --all-layers app.tar 'id_rsa' '*.env'")]
pub(crate) struct Find {
    #[command(flatten)]
    look: LookArgs,
    /// Patterns for file names or, with a slash, for whole paths; `**` matches any number of directories
    #[arg(value_name = "GLOB", required = true)]
    patterns: Vec<String>,
    /// Take the patterns as regular expressions, matched against any part of the path
    #[arg(long)]
    regex: bool,
    /// Also find files that later layers replaced or deleted
    #[arg(long, conflicts_with = "layer")]
    all_layers: bool,
    #[command(flatten)]
    as_of: LayerArg,
    /// Find only what layer N adds, replaces or deletes
    #[arg(long, value_name = "N", conflicts_with_all = ["layer", "all_layers"])]
    changed_by: Option<usize>,
}

impl Find {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let patterns = self.patterns.iter().map(String::as_str);
        let pattern = if self.regex { Pattern::regexes(patterns)? } else { Pattern::globs(patterns)? };
        let mut looked = self.look.look(common, cancel)?;
        let count = looked.indexes.records.len();
        if let Some(layer) = self.as_of.layer.or(self.changed_by).filter(|&layer| layer >= count) {
            return Err(InsideError::NoSuchLayer { layer, count }.into());
        }
        looked.indexes.records.truncate(self.as_of.layer.map_or(count, |layer| layer + 1));
        let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
        let mut hits = traced.find(&pattern, self.shows_fate());
        if let Some(layer) = self.changed_by {
            let ends = |fate| matches!(fate, Fate::Hidden { by } | Fate::Replaced { by } if by == layer);
            hits.retain(|hit| hit.in_layer == layer || ends(hit.fate));
        }
        let code = if hits.is_empty() { FAILURE } else { SUCCESS };
        if hits.is_empty() && !self.shows_fate() {
            let more = traced.find(&pattern, true).len() as u64;
            if more > 0 {
                let matches = counted(more, "match", "matches");
                output::say(
                    common,
                    format_args!("note: {matches} in replaced or deleted files: --all-layers lists them"),
                );
            }
        }
        if common.json {
            output::json_lines(hits)?;
        } else if !common.quiet {
            let rows: Vec<Vec<String>> = hits.iter().map(|hit| self.row(hit)).collect();
            output::lines(columns(&rows, &[0]))?;
        }
        Ok(code)
    }

    /// Whether files are listed that are not there any more, which has to be said of each.
    fn shows_fate(&self) -> bool {
        self.all_layers || self.changed_by.is_some()
    }

    fn row(&self, hit: &Hit) -> Vec<String> {
        let mut row = vec![hit.in_layer.to_string()];
        if self.shows_fate() {
            row.push(match hit.fate {
                Fate::Visible => "visible".to_owned(),
                Fate::Replaced { by } => format!("replaced by layer {by}"),
                Fate::Hidden { by } => format!("deleted by layer {by}"),
                Fate::Overwritten => "overwritten".to_owned(),
            });
        }
        row.push(match hit.fate {
            Fate::Visible => hit.entry.path.to_string(),
            Fate::Hidden { .. } => painted(&hit.entry.path, Colour::Red),
            Fate::Replaced { .. } | Fate::Overwritten => painted(&hit.entry.path, Colour::Yellow),
        });
        row
    }
}
