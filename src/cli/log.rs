//! `layflat log`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use layflat::Cancel;
use layflat::core::text::Printable;
use layflat::inspect::{Action, PathEvent, history};

use super::arguments::{Common, LookArgs};
use super::output::{Colour, painted};
use super::table::{alteration, bytes, columns};
use super::{SUCCESS, output};

/// Show which layers touched a path, and the build command of each
///
/// Symbolic links in PATH are followed as they were at each layer.
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    look: LookArgs,
    /// A path in the image; it may be deleted by a later layer
    path: OsString,
}

impl Log {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let looked = self.look.look(common, cancel)?;
        let events = history(self.path.as_bytes(), &looked.image, &looked.indexes, &looked.options)?;
        if common.json {
            output::json_lines(events)?;
        } else {
            let rows: Vec<Vec<String>> = events.iter().map(row).collect();
            output::lines(columns(&rows, &[0]))?;
        }
        Ok(SUCCESS)
    }
}

fn row(event: &PathEvent) -> Vec<String> {
    let (word, colour) = match event.action {
        Action::Added => ("added", Colour::Green),
        Action::Replaced => ("changed", Colour::Yellow),
        Action::Metadata => ("metadata", Colour::Yellow),
        Action::Hidden => ("deleted", Colour::Red),
    };
    let created_by = event.created_by.as_deref().unwrap_or("(no history)");
    let created_by = Printable(created_by.as_bytes()).to_string();
    vec![event.layer.to_string(), painted(word, colour), what(event), created_by]
}

fn what(event: &PathEvent) -> String {
    if !event.differences.is_empty() {
        let changes = event.differences.iter().map(|change| alteration(&change.what, &change.before, &change.now));
        return changes.collect::<Vec<_>>().join(", ");
    }
    let Some((now, facts)) = event.now.as_ref().and_then(|now| now.facts.as_ref().map(|facts| (now, facts))) else {
        return String::new();
    };
    let detail = match (&facts.target, facts.device, &facts.digest) {
        (Some(target), ..) => format!(" to {target}"),
        (_, Some((major, minor)), _) => format!(" {major}:{minor}"),
        (.., Some(_)) => format!(" {}", bytes(facts.size)),
        _ => String::new(),
    };
    format!("{}{detail}, {:04o} {}:{}", now.kind.name(), facts.mode, facts.uid, facts.gid)
}
