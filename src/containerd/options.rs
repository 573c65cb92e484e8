//! What the program is told: on its command line, and in a file.

use std::error::Error;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use layflat::core::chain::Context;
use layflat::core::text::parse_size;

/// Unpacks layers for containerd, so that containers see what the image means: as its snapshotter and differ, with --root,
/// or as a differ alone, for the directories of containerd's own overlayfs snapshotter. docs/containerd.md has containerd's
/// configuration.
// Each option is a key of the file, too.
#[derive(Debug, Parser, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// Read this file (TOML) for what is not said here: the same options, without dashes in front, as `jobs = 4`
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Listen on this socket, which only the caller's user can connect to [default: /run/layflat-containerd.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) address: Option<PathBuf>,
    /// Be a snapshotter as well, and keep the snapshots in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Keep layers there unpacked, or as EROFS images over files with their contents, which takes less time and needs Linux 6.12 or later
    /// [default: overlay]
    #[arg(long, value_enum, hide_default_value = true)]
    pub(crate) backend: Option<Backend>,
    /// containerd's root directory, in which its content store is [default: /var/lib/containerd]
    #[arg(long, value_name = "DIR")]
    pub(crate) containerd_root: Option<PathBuf>,
    /// containerd's socket, to give it layers that are made of containers [default: /run/containerd/containerd.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) containerd_address: Option<PathBuf>,
    /// Unpack, finish or make so many layers at the same time; more wait for their turn, in the order in which they came [default: one for
    /// each processor]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,
    /// Use so many threads for each of them, about; with 1 all is done on one [default: as many as it has use for]
    #[arg(long, value_name = "N")]
    pub(crate) layer_jobs: Option<NonZero<usize>>,
    /// Refuse a layer for which more memory would be needed, with what has to be known of the layers below: 64 MiB, 300 bytes for each
    /// of their entries, and names and attributes. SIZE is a number with an optional K, M or G [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Memory>,
    /// Do not wait until a layer is on disk: a power loss soon after may leave empty files in it
    #[arg(long)]
    #[serde(default)]
    pub(crate) no_sync: bool,
    /// When told to end, let layers be finished for so many seconds [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace: Option<u64>,
    /// Show metrics to Prometheus, by HTTP at /metrics: on this socket, which only the caller's user can connect to, or on an IP
    /// address and port, to whoever can connect to it
    #[arg(long, value_name = "SOCKET|IP:PORT")]
    pub(crate) metrics: Option<String>,
    /// How each line of the log is written [default: text]
    #[arg(long, value_enum, hide_default_value = true)]
    pub(crate) log: Option<Log>,
}

/// Bytes of memory, of which some are left for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Memory(pub(crate) u64);

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// What no layer needs less than (`Limits::memory`), and room for some entries.
        const LEAST: u64 = 65 << 20;
        match parse_size(text)? {
            size if size < LEAST => Err(format!("{text:?}: no layer is unpacked with less than {}M", LEAST >> 20)),
            size => Ok(Self(size)),
        }
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backend {
    Overlay,
    Erofs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Log {
    Text,
    Json,
}

impl Options {
    /// With what the file says, where the command line does not.
    pub(crate) fn with_file(self) -> Result<Self, Box<dyn Error>> {
        let Some(path) = &self.config else { return Ok(self) };
        let file = read(path)?;
        Ok(Self {
            config: None,
            address: self.address.or(file.address),
            root: self.root.or(file.root),
            backend: self.backend.or(file.backend),
            containerd_root: self.containerd_root.or(file.containerd_root),
            containerd_address: self.containerd_address.or(file.containerd_address),
            jobs: self.jobs.or(file.jobs),
            layer_jobs: self.layer_jobs.or(file.layer_jobs),
            memory: self.memory.or(file.memory),
            no_sync: self.no_sync || file.no_sync,
            grace: self.grace.or(file.grace),
            metrics: self.metrics.or(file.metrics),
            log: self.log.or(file.log),
        })
    }
}

fn read(path: &Path) -> Result<Options, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| Context::new(format!("cannot read {path:?}"), error))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text.as_bytes()[..span.start].split(|&byte| byte == b'\n').count());
        format!("{path:?}, line {line}: {}", error.message().trim()).into()
    })
}
