//! `layflat cache`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use layflat::Cancel;
use layflat::cache::{CacheEntry, PruneOptions, directory, list, prune, verify};
use layflat::core::text::{Printable, parse_size};

use super::arguments::Common;
use super::table::{align, bytes, counted};
use super::{FAILURE, SUCCESS, output};

/// List, verify or prune the cache: blobs from registries, layer indexes, unpacked layers
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
    Ls,
    /// Compare everything in the cache with its digests; exits with 1 if something is damaged
    Verify {
        /// Remove what is damaged; it is fetched or unpacked anew when it is needed
        #[arg(long)]
        repair: bool,
    },
    /// Remove the least recently used entries; entries in use or mounted stay
    Prune {
        /// Size to shrink the cache to: bytes, or K, M, G, T for powers of 1024
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        max_size: Option<u64>,
        /// Remove all entries that are not in use, without asking
        #[arg(long, conflicts_with = "max_size")]
        all: bool,
        /// Also remove exported files that were asked for in the last seven days; whoever asked may have them mounted
        #[arg(long)]
        exports: bool,
        /// Forget what this machine has recorded as mounted, since it is gone for good
        #[arg(long, value_name = "HOST")]
        gone: Vec<String>,
    },
}

impl Cache {
    /// Whether it is `cache verify`.
    pub(crate) fn is_verify(&self) -> bool {
        matches!(self.action, Action::Verify { .. })
    }

    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let directory = self.cache_dir.clone().or_else(directory);
        let directory = directory.context("cannot find the cache directory; specify it with --cache-dir")?;
        match &self.action {
            Action::Ls => {
                let entries = list(&directory)?;
                if common.json {
                    output::json(&entries)?;
                } else {
                    output::lines(table(&entries))?;
                    output::say(common, total(&entries));
                }
            }
            Action::Verify { repair } => return verify_all(&directory, *repair, common, cancel),
            Action::Prune { max_size, all, exports, gone } => {
                let Some(most) = max_size.or(all.then_some(0)).or_else(|| asked(&directory)) else {
                    anyhow::bail!(
                        "nothing removed: --max-size SIZE says how much to keep, --all removes all that is not in use"
                    );
                };
                let pruned = prune(&directory, &PruneOptions { most, exports: *exports, gone: gone.clone() })?;
                if common.json {
                    output::json(&pruned)?;
                } else {
                    let in_use =
                        if pruned.in_use > 0 { format!(", {} in use", bytes(pruned.in_use)) } else { String::new() };
                    let (count, freed, left) = (pruned.removed.len(), bytes(pruned.freed), bytes(pruned.left));
                    output::say(common, format_args!("{count} removed, {freed} freed; {left} left{in_use}"));
                    let others = elsewhere(pruned.mounted_by.iter());
                    if !others.is_empty() {
                        output::say(
                            common,
                            format_args!(
                                "note: some of it is mounted on {others}; if one of these is gone for good: --gone HOST"
                            ),
                        );
                    }
                    if pruned.without_locks {
                        let place = Printable(directory.as_os_str().as_encoded_bytes());
                        output::say(
                            common,
                            format_args!(
                                "note: the file system of {place} has no locks (flock) that all machines see, so nobody can tell what is in use and nothing is removed; when nothing uses it, remove the directory"
                            ),
                        );
                    }
                }
            }
        }
        Ok(SUCCESS)
    }
}

/// Other machines.
fn elsewhere<'h>(hosts: impl Iterator<Item = &'h String>) -> String {
    let this = rustix::system::uname();
    let others = hosts.filter(|host| host.as_bytes() != this.nodename().to_bytes());
    others.map(|host| Printable(host.as_bytes()).to_string()).collect::<Vec<_>>().join(", ")
}

/// Asks whether everything is to go, where someone can answer: 0 if so.
fn asked(directory: &Path) -> Option<u64> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let place = Printable(directory.as_os_str().as_encoded_bytes());
    eprint!("Remove everything in {place} that is not in use? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).ok()?;
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes").then_some(0)
}

/// "12 entries, 1.2 GiB: 3 blobs 1.0 GiB, …".
fn total(entries: &[CacheEntry]) -> String {
    let sum = |entries: &[&CacheEntry]| bytes(entries.iter().map(|entry| entry.size).sum());
    let mut kinds: Vec<&str> = Vec::new();
    for entry in entries {
        if !kinds.contains(&entry.kind.name()) {
            kinds.push(entry.kind.name());
        }
    }
    kinds.sort_unstable();
    let of_kind = |kind: &&str| {
        let of: Vec<&CacheEntry> = entries.iter().filter(|entry| entry.kind.name() == *kind).collect();
        format!("{kind} {} {}", of.len(), sum(&of))
    };
    let parts: Vec<String> = kinds.iter().map(of_kind).collect();
    let all = counted(entries.len() as u64, "entry", "entries");
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{all}, {}{parts}", sum(&entries.iter().collect::<Vec<_>>()))
}

fn verify_all(directory: &Path, repair: bool, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
    let verified = verify(directory, repair, cancel)?.context("interrupted")?;
    if common.json {
        output::json(&verified)?;
    } else {
        output::lines(verified.damaged.iter().map(|damaged| {
            let name = Printable(damaged.name.as_bytes());
            let done = match (repair, damaged.removed) {
                (_, true) => "; removed",
                (true, false) => "; in use, and so not removed",
                (false, false) => "",
            };
            format!("{} {name}: {}{done}", damaged.kind.name(), output::one_line(&damaged.problem))
        }))?;
        let removed = verified.damaged.iter().filter(|damaged| damaged.removed).count();
        let removed = if repair { format!(", {removed} removed") } else { String::new() };
        let (checked, damaged) = (verified.checked, verified.damaged.len());
        output::say(common, format_args!("{checked} checked, {damaged} damaged{removed}"));
    }
    Ok(if verified.damaged.iter().all(|damaged| damaged.removed) { SUCCESS } else { FAILURE })
}

fn table(entries: &[CacheEntry]) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["size", "used", "", "kind", "name"].map(str::to_owned).to_vec()];
    for entry in entries {
        let state = match entry {
            CacheEntry { damaged: Some(_), .. } => "damaged",
            CacheEntry { in_use: true, .. } => "in use",
            entry if entry.kind.is_old() => "old",
            _ => "",
        };
        let name = Printable(entry.name.as_bytes()).to_string();
        rows.push(vec![bytes(entry.size), ago(entry.used), state.to_owned(), entry.kind.name().to_owned(), name]);
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
