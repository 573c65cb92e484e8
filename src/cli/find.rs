//! `layflat find`

use clap::Args;
use layflat::Cancel;
use layflat::inspect::{Fate, Hit, Pattern, Traced};

use super::arguments::{Common, LookArgs};
use super::output::{Colour, painted};
use super::table::columns;
use super::{FAILURE, SUCCESS, output};

/// Find paths in an image, and the layers that have them
///
/// Each line has the layer and the path; with --all-layers also what is not shown any more, and which layer hides or replaces it. Exits with 1 if
/// nothing is found.
#[derive(Debug, Args)]
pub(crate) struct Find {
    #[command(flatten)]
    look: LookArgs,
    /// For the name, or, if there is a slash in it, for the whole path; `**` stands for any directories
    #[arg(value_name = "GLOB", required = true)]
    patterns: Vec<String>,
    /// The patterns are regular expressions, for any part of the path
    #[arg(long)]
    regex: bool,
    /// What is replaced or hidden, too
    #[arg(long)]
    all_layers: bool,
}

impl Find {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let patterns = self.patterns.iter().map(String::as_str);
        let pattern = if self.regex { Pattern::regexes(patterns)? } else { Pattern::globs(patterns)? };
        let looked = self.look.look(common, cancel)?;
        let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
        let hits = traced.find(&pattern, self.all_layers);
        let code = if hits.is_empty() { FAILURE } else { SUCCESS };
        if common.json {
            output::json_lines(hits)?;
        } else if !common.quiet {
            let rows: Vec<Vec<String>> = hits.iter().map(|hit| self.row(hit)).collect();
            output::lines(columns(&rows, &[0]))?;
        }
        Ok(code)
    }

    fn row(&self, hit: &Hit) -> Vec<String> {
        let mut row = vec![hit.in_layer.to_string()];
        if self.all_layers {
            row.push(match hit.fate {
                Fate::Visible => "visible".to_owned(),
                Fate::Replaced { by } => format!("replaced by {by}"),
                Fate::Hidden { by } => format!("hidden by {by}"),
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
