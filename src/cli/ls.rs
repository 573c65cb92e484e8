//! `layflat ls`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use jiff::Timestamp;
use layflat::Cancel;
use layflat::core::text::Printable;
use layflat::inspect::{ListOptions, Listing, PathEntry, PathKind};

use super::arguments::{Common, LayerArg, LookArgs};
use super::output::{Colour, painted};
use super::table::columns;
use super::{SUCCESS, missing, output};

/// List files of an image, without unpacking it
///
/// Symbolic links in PATH are followed inside the image. --layer lists the image as of one layer, without what later
/// layers do; --changed-by lists what one layer adds, changes and deletes. Times are UTC, owners are numeric.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    look: LookArgs,
    /// A directory or file in the image
    #[arg(default_value = "/")]
    path: OsString,
    /// Show mode, links, owner, group, size or device number, time, and the target of symbolic links
    #[arg(short, long)]
    long: bool,
    /// List directories recursively, one path per line
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List a directory itself, not its contents
    #[arg(short, long)]
    directory: bool,
    #[command(flatten)]
    as_of: LayerArg,
    /// List only what layer N adds, changes and deletes; deleted names are marked, with -l by type `w`
    #[arg(long, value_name = "N", conflicts_with = "layer")]
    changed_by: Option<usize>,
}

impl Ls {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let looked = self.look.look(common, cancel)?;
        let inside = looked.inside(self.as_of.layer)?;
        if let Some(layer) = self.as_of.layer {
            let now = format_args!("--layer {layer} lists the image as of layer {layer}");
            output::note(common, format_args!("{now}; what that layer changes: --changed-by {layer}"), None);
        }
        let path = self.path.as_bytes();
        let options = ListOptions {
            changed_by: self.changed_by,
            recursive: self.recursive,
            itself: self.directory,
            links: self.long || self.directory,
        };
        let listing = inside.list(path, options).map_err(|error| {
            missing::explained(error, path, &looked, |_| "`layflat log` shows its history".to_owned())
        })?;
        if common.json {
            output::json_lines(listing.entries)?;
        } else {
            let Listing { directory, entries } = &listing;
            let above = directory.as_ref().map_or(0, |directory| directory.components().count());
            let names: Vec<String> = entries.iter().map(|entry| name(entry, above)).collect();
            if self.long {
                let rows: Vec<Vec<String>> = entries.iter().zip(names).map(|(entry, name)| long(entry, name)).collect();
                output::lines(columns(&rows, &[1, 2, 3, 4]))?;
            } else {
                output::lines(names)?;
            }
        }
        Ok(SUCCESS)
    }
}

/// An entry's path from the directory that is listed, which is that many components deep.
fn name(entry: &PathEntry, above: usize) -> String {
    let path: Vec<&[u8]> = entry.path.components().skip(above).collect();
    let path = path.join(&b'/');
    let name = if path.is_empty() { entry.path.to_string() } else { Printable(&path).to_string() };
    match entry.kind {
        PathKind::Whiteout => painted(format!("{name} (deleted)"), Colour::Red),
        _ if entry.opaque => format!("{name} (opaque: deletes what lower layers have in it)"),
        _ => name,
    }
}

fn long(entry: &PathEntry, name: String) -> Vec<String> {
    let nothing = || "-".to_owned();
    let Some(facts) = &entry.facts else {
        let mode = format!("{}---------", entry.kind.letter());
        return vec![mode, nothing(), nothing(), nothing(), nothing(), nothing(), name];
    };
    let size = match facts.device {
        Some((major, minor)) => format!("{major}, {minor}"),
        None => facts.size.to_string(),
    };
    let target = facts.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
    vec![
        mode(entry.kind, facts.mode),
        entry.links.map_or_else(nothing, |links| links.to_string()),
        facts.uid.to_string(),
        facts.gid.to_string(),
        size,
        time(facts.mtime),
        format!("{name}{target}"),
    ]
}

/// As `ls -l` writes it.
fn mode(kind: PathKind, mode: u32) -> String {
    let mut text = String::from(kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// `2023-11-14 22:13` in UTC; what no calendar has as seconds, `@1e18`.
fn time(time: layflat::core::text::Timestamp) -> String {
    match Timestamp::from_second(time.seconds) {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => format!("@{}", time.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_coreutils() {
        assert_eq!(mode(PathKind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode(PathKind::File, 0o6644), "-rwSr-Sr--");
        assert_eq!(mode(PathKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(PathKind::Directory, 0o1770), "drwxrwx--T");
        assert_eq!(mode(PathKind::CharacterDevice, 0), "c---------");
    }

    #[test]
    fn times_are_utc_and_may_be_any() {
        let at = |seconds| time(layflat::core::text::Timestamp { seconds, nanoseconds: 0 });
        assert_eq!(at(1_700_000_000), "2023-11-14 22:13");
        assert_eq!(at(-14_182_940), "1969-07-20 20:17");
        assert_eq!(at(i64::MAX), "@9223372036854775807");
    }
}
