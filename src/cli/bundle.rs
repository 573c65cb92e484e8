//! `layflat bundle`

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use layflat::Cancel;
use layflat::bundle::{Bind, BundleOptions, Confinement, Overrides, Report};
use layflat::core::idmap::IdMaps;
use layflat::core::text::Printable;
use layflat::metadata::Stacking;
use layflat::userns::{enter, in_user_namespace};

use super::arguments::Common;
use super::made::Made;
use super::mount::{CachedArgs, say_layers};
use super::overlap::refuse_replacing_source;
use super::owners::own;
use super::watchdog::alone;
use super::{SUCCESS, output, progress, tips};

/// Make an OCI runtime bundle, ready for runc or crun
///
/// DIR gets config.json, converted from the image's configuration, and rootfs. It is created by a single rename: on an
/// error it does not appear at all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat bundle --tty docker://alpine box && runc run --bundle box demo
  layflat bundle --overlay app.tar box    # layers shared with other bundles
  layflat bundle --arg /bin/sh --arg -c --arg id app.tar box")]
pub(crate) struct Bundle {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// The bundle directory to create
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Unpack the layers into the cache, once for all bundles, and mount them on rootfs with a writable upper directory
    #[arg(long)]
    overlay: bool,
    /// Make a bundle for rootless runc or crun (the default unless run as root). As root: specify the user's ids with
    /// --uid-map
    #[arg(long)]
    rootless: bool,
    #[command(flatten)]
    cached: CachedArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

/// The heading of these options.
const HEADING: &str = "Overrides of the image's configuration";

/// Overrides of the image's configuration.
#[derive(Debug, Args)]
struct ProcessArgs {
    /// Argument of the program; replaces the image's Cmd. Repeatable
    #[arg(help_heading = HEADING, long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Program to run; replaces the image's Entrypoint and drops its Cmd. "" drops both
    #[arg(help_heading = HEADING, long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set an environment variable; without =VALUE, take the value from layflat's own environment
    #[arg(help_heading = HEADING, long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// User, and optionally group, to run as: names from the image, or numbers
    #[arg(help_heading = HEADING, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(help_heading = HEADING, long, value_name = "PATH")]
    cwd: Option<String>,
    /// Host name of the container
    #[arg(help_heading = HEADING, long, value_name = "NAME")]
    hostname: Option<String>,
    /// Allocate a terminal
    #[arg(help_heading = HEADING, long)]
    tty: bool,
    /// Mount the root file system read-only
    #[arg(help_heading = HEADING, long)]
    read_only: bool,
    /// Bind-mount a file or directory of the host
    #[arg(help_heading = HEADING, long = "bind", value_name = "SRC:DST[:ro]")]
    binds: Vec<Bind>,
}

impl Bundle {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let overrides = self.process.overrides()?;
        let root = rustix::process::geteuid().is_root();
        let inside = in_user_namespace();
        let settled = self.cached.unpack.owners.settle()?;
        if self.overlay && !root && settled.maps.is_none() {
            // The layers are looked into through a mount.
            alone(|| enter(&own()))?;
        }
        tips::refuse_archive_name(&self.directory, "a bundle is a directory")?;
        if self.cached.unpack.replace {
            refuse_replacing_source(&self.image, self.cached.cache(), &self.directory)?;
        }
        let confinement = self.confinement(root, inside, settled.maps.clone())?;
        let image = self.cached.open(&self.image, cancel)?;
        let progress = progress::progress(common);
        let how = self.cached.backend.how(Stacking::MergedBelow)?;
        let options = BundleOptions { overrides, confinement, how };
        let unpack = self.cached.options(settled.owners.clone(), cancel)?;
        // It is mounted later, and that is recorded where its layers are.
        let unpack = layflat::Options { lower_cache: None, ..unpack };
        let report = if self.overlay {
            let cache = self.cached.directory()?;
            layflat::bundle::overlay(&image, &self.directory, &cache, root, &unpack, &options, progress.as_ref())?
        } else {
            layflat::bundle::flat(&image, &self.directory, &unpack, &options, progress.as_ref())?
        };
        settled.say(common);
        self.say(common, &report, image.layers.len())?;
        Ok(SUCCESS)
    }

    /// Whose the container is. `inside`: whether a user namespace was there before we entered any.
    fn confinement(&self, root: bool, inside: bool, maps: Option<IdMaps>) -> anyhow::Result<Confinement> {
        Ok(match maps {
            // Only in the namespace where they can be mounted are the layers seen.
            _ if !root && self.overlay => Confinement::Inside,
            Some(maps) if root && !self.rootless => Confinement::Mapped(maps),
            Some(maps) => Confinement::Rootless(maps),
            None if root && inside => Confinement::Inside,
            None if root && self.rootless => {
                bail!("--rootless as root: specify the user's ids, like --uid-map 0:1000:1")
            }
            None if root => Confinement::Root,
            None => Confinement::Rootless(own()),
        })
    }

    fn say(&self, common: &Common, report: &Report, layers: usize) -> anyhow::Result<()> {
        for what in &report.left_out {
            output::say(common, format_args!("note: left out {what}"));
        }
        say_layers(common, report.repaired.as_deref(), &report.not_kept);
        if let Some(unpacked) = &report.unpacked {
            output::notices(common, &unpacked.notices);
            output::losses(common, &unpacked.not_kept);
        }
        if common.json {
            return output::json(report);
        }
        let directory = Printable(self.directory.as_os_str().as_encoded_bytes());
        let run = match report.mounted {
            Some(false) => format!("layflat unshare --mount {directory} -- runc run --bundle {directory} NAME"),
            _ => format!("runc run --bundle {directory} NAME"),
        };
        let made = Made::at(&self.directory);
        let made = match &report.unpacked {
            Some(unpacked) => made.tree(&unpacked.made, None).losses(&unpacked.not_kept),
            None => made.count(layers as u64, "layer", "layers").losses(&report.not_kept),
        };
        made.say(common, &format!("run it: {run}"));
        Ok(())
    }
}

impl ProcessArgs {
    fn overrides(&self) -> anyhow::Result<Overrides> {
        Ok(Overrides {
            entrypoint: self.entrypoint.clone(),
            arguments: (!self.arguments.is_empty()).then(|| self.arguments.clone()),
            environment: self.environment.iter().map(|text| variable(text)).collect::<anyhow::Result<_>>()?,
            user: self.user.clone(),
            cwd: self.cwd.clone(),
            hostname: self.hostname.clone(),
            terminal: self.tty,
            read_only: self.read_only,
            binds: self.binds.clone(),
        })
    }
}

/// `NAME=VALUE`, or `NAME` with the value that it has here.
pub(super) fn variable(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some(("", _)) => bail!("--env {text:?}: expected NAME=VALUE, or a NAME that is set here"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => std::env::var(text).map(|value| (text.to_owned(), value)).with_context(|| format!("--env {text}")),
    }
}
