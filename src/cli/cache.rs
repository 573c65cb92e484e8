//! `layflat cache`

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use layflat::cache::{CacheEntry, CacheKind, directory, list, prune};
use layflat::core::text::Printable;

use super::arguments::{Common, parse_size};
use super::table::{align, bytes};
use super::{SUCCESS, output};

/// List or prune the cache: blobs from registries, layer indexes, unpacked layers
#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// Cache directory [default: $XDG_CACHE_HOME/layflat]
    #[arg(long, value_name = "DIR", global = true)]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the cache's entries, least recently used first
    #[command(alias = "list")]
    Ls,
    /// Remove the least recently used entries; entries in use or mounted stay
    Prune {
        /// Size to shrink the cache to: bytes, or K, M, G, T for powers of 1024 [default: 0]
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size, hide_default_value = true)]
        max_size: u64,
    },
}

impl Cache {
    pub(crate) fn run(&self, common: &Common) -> anyhow::Result<u8> {
        let directory = self.cache_dir.clone().or_else(directory);
        let directory = directory.context("cannot find the cache directory; specify it with --cache-dir")?;
        match self.action {
            Action::Ls => {
                let entries = list(&directory)?;
                if common.json {
                    output::json(&entries)?;
                } else {
                    output::lines(table(&entries))?;
                }
            }
            Action::Prune { max_size } => {
                let pruned = prune(&directory, max_size)?;
                if common.json {
                    output::json(&pruned)?;
                } else {
                    let in_use =
                        if pruned.in_use > 0 { format!(", {} in use", bytes(pruned.in_use)) } else { String::new() };
                    let (count, freed, left) = (pruned.removed.len(), bytes(pruned.freed), bytes(pruned.left));
                    output::say(common, format_args!("{count} removed, {freed} freed; {left} left{in_use}"));
                }
            }
        }
        Ok(SUCCESS)
    }
}

fn table(entries: &[CacheEntry]) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["size", "used", "", "kind", "name"].map(str::to_owned).to_vec()];
    for entry in entries {
        let kind = match &entry.kind {
            CacheKind::Blob => "blob",
            CacheKind::Remains => "remains",
            CacheKind::Directory(name) => name,
            _ => "other",
        };
        let held = if entry.in_use { "in use" } else { "" };
        let name = Printable(entry.name.as_bytes()).to_string();
        rows.push(vec![bytes(entry.size), ago(entry.used), held.to_owned(), kind.to_owned(), name]);
    }
    align(&rows)
}

/// How long ago, in the largest unit that fits.
fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or(Duration::ZERO).as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}
