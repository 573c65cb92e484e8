//! `layflat grep`

use std::io::Write as _;

use clap::Args;
use layflat::Cancel;
use layflat::core::text::Printable;
use layflat::inspect::{Grep as Search, Match, Pattern};

use super::arguments::{Common, LayerArg, LookArgs};
use super::output::{Colour, painted};
use super::{FAILURE, SUCCESS, output, progress};

/// Search the contents of an image's files, without unpacking the image
///
/// PATTERN is a regular expression. Prints the path and the line of each match, layer by layer; of files that are not
/// text only that they match. Control characters are escaped. Exits with 0 if something matches, 1 if nothing does, 2
/// after an error, as grep does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat grep -i 'password *=' app.tar
  layflat grep -l -F 'BEGIN RSA PRIVATE KEY' app.tar --all-layers
  layflat grep -n --include '*.conf' listen docker://nginx")]
pub(crate) struct Grep {
    /// What to search for
    pattern: String,
    #[command(flatten)]
    look: LookArgs,
    /// Ignore case
    #[arg(short, long)]
    ignore_case: bool,
    /// Only print the paths of files that match
    #[arg(short = 'l', long)]
    files_with_matches: bool,
    /// Print line numbers
    #[arg(short = 'n', long)]
    line_number: bool,
    /// Take PATTERN as it is, not as a regular expression
    #[arg(short = 'F', long)]
    fixed_strings: bool,
    /// Only search files whose name or, with a slash, whose whole path matches. Repeatable
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Also search what later layers replaced or deleted, and print the layer of each match
    #[arg(long)]
    all_layers: bool,
    #[command(flatten)]
    as_of: LayerArg,
    /// Search only what layer N adds or changes
    #[arg(long, value_name = "N", conflicts_with_all = ["layer", "all_layers"])]
    changed_by: Option<usize>,
}

impl Grep {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let mut search = Search::new(&self.pattern, self.fixed_strings, self.ignore_case)?;
        search.all_layers = self.all_layers;
        search.changed_by = self.changed_by;
        search.names_only = self.files_with_matches;
        if !self.include.is_empty() {
            search.include = Some(Pattern::globs(self.include.iter().map(String::as_str))?);
        }
        let looked = self.look.look(common, cancel)?;
        let inside = looked.inside(self.as_of.layer)?;
        let mut found = false;
        let mut out = std::io::BufWriter::new(std::io::stdout());
        inside.grep(&search, &looked.options, progress::progress(common).as_ref(), &mut |found_here| {
            found = true;
            match () {
                () if common.json => writeln!(out, "{}", output::json_line(&found_here)?),
                () if common.quiet => Ok(()),
                () => writeln!(out, "{}", self.line(&found_here)),
            }
        })?;
        out.flush()?;
        Ok(if found { SUCCESS } else { FAILURE })
    }

    fn line(&self, found: &Match) -> String {
        let layer = if self.all_layers { format!("{}:", found.in_layer) } else { String::new() };
        let path = painted(&found.path, Colour::Green);
        match &found.line {
            _ if found.binary && !self.files_with_matches => format!("{layer}{path}: binary file matches"),
            None => format!("{layer}{path}"),
            Some(line) => {
                let number = if self.line_number { format!("{}:", line.number) } else { String::new() };
                format!("{layer}{path}:{number}{}", text(&line.text))
            }
        }
    }
}

/// A line as it is, but for what a terminal would obey. Tabs and backslashes are harmless.
fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let pieces = line.split(|&byte| byte == b'\t').map(|piece| Printable(piece).to_string().replace("\\\\", "\\"));
    pieces.collect::<Vec<_>>().join("\t")
}
