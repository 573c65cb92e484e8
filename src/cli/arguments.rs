//! Arguments that several commands share, and what the library makes of them.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use layflat::image::{Image, Platform, Reference};
use layflat::index::{Indexes, indexes};
use layflat::{Cancel, Limits, Options, XattrNamespace, cache, source};

use super::{output, progress};

/// Arguments of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print JSON on standard output: one report, or of a list one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// Which image.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image (see `layflat --help`)
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// How an image is opened.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Which image of several: os/arch[/variant]; default: this machine's
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Raise or lower a limit: entries, layer-size, file-size, name-length, depth, extended-header, ratio, metadata-size
    #[arg(long = "limit", value_name = "NAME=N", value_parser = parse_limit)]
    limits: Vec<(String, u64)>,
    /// Layers read at the same time; default: as many as there are processors
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
}

/// Which image is looked into.
#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Where indexes of layers are kept; default: $XDG_CACHE_HOME/layflat
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache_dir: Option<PathBuf>,
    /// Read all layers, and keep nothing
    #[arg(long)]
    no_cache: bool,
}

/// An image whose layers are indexed.
pub(crate) struct Looked {
    pub(crate) image: Image,
    pub(crate) indexes: Indexes,
    pub(crate) options: Options,
}

/// How an image is laid down.
#[derive(Debug, Args)]
pub(crate) struct LayArgs {
    /// Put the new tree in the place of one that is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Fail where the destination cannot hold everything, instead of reporting it
    #[arg(long)]
    strict: bool,
    /// Ignore the image's entries for the root directory, as Docker does: mode 0755, owner 0:0
    #[arg(long)]
    ignore_root_entry: bool,
    /// Set security.selinux as the image has it
    #[arg(long)]
    selinux: bool,
}

/// Where overlay marks go.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum NamespaceArg {
    /// trusted.overlay.*, for mounts by root
    Trusted,
    /// user.overlay.*, for mounts with userxattr, as in a user namespace
    User,
}

impl From<NamespaceArg> for XattrNamespace {
    fn from(argument: NamespaceArg) -> Self {
        match argument {
            NamespaceArg::Trusted => Self::Trusted,
            NamespaceArg::User => Self::User,
        }
    }
}

impl ImageArgs {
    /// Opens the image.
    pub(crate) fn open(&self, cancel: &Cancel) -> anyhow::Result<Image> {
        open(&self.image, &self.open, cancel)
    }
}

impl LookArgs {
    /// Opens the image and indexes its layers.
    pub(crate) fn look(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<Looked> {
        let image = self.image.open(cancel)?;
        let options = self.image.open.options(cancel)?;
        let cache = self.cache_dir.clone().or_else(cache::directory).filter(|_| !self.no_cache);
        let indexes = indexes(&image, cache.as_deref(), &options, progress::progress(common).as_ref())?;
        if let Some((error, cache)) = indexes.not_kept.as_ref().zip(cache) {
            output::say(common, format_args!("note: cannot keep the layers' indexes in {cache:?}: {error}"));
        }
        Ok(Looked { image, indexes, options })
    }
}

/// Opens the image that an argument names.
pub(crate) fn open(image: &OsString, arguments: &OpenArgs, cancel: &Cancel) -> anyhow::Result<Image> {
    let reference = Reference::parse(image)?;
    source::open(&reference, &arguments.opening(cancel)?).with_context(|| format!("cannot open {reference}"))
}

impl OpenArgs {
    fn limits(&self) -> anyhow::Result<Limits> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            let length = || usize::try_from(*value).with_context(|| format!("--limit {name}: too large"));
            match name.as_str() {
                "entries" => limits.entries = *value,
                "layer-size" => limits.layer_size = *value,
                "file-size" => limits.file_size = *value,
                "name-length" => limits.name_length = length()?,
                "depth" => limits.depth = length()?,
                "extended-header" => limits.extended_header = *value,
                "ratio" => limits.ratio = *value,
                "metadata-size" => limits.metadata_size = *value,
                _ => anyhow::bail!("--limit {name}: there is no such limit; see --help for their names"),
            }
        }
        Ok(limits)
    }

    /// How the library opens the image.
    pub(crate) fn opening(&self, cancel: &Cancel) -> anyhow::Result<source::OpenOptions> {
        Ok(source::OpenOptions {
            platform: self.platform.clone(),
            limits: self.limits()?,
            cancel: cancel.clone(),
            ..source::OpenOptions::default()
        })
    }

    /// The library's options, where nothing is laid down.
    pub(crate) fn options(&self, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options { jobs: self.jobs, limits: self.limits()?, cancel: cancel.clone(), ..Options::default() })
    }
}

impl LayArgs {
    /// The library's options.
    pub(crate) fn options(&self, open: &OpenArgs, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options {
            replace: self.replace,
            strict: self.strict,
            ignore_root_entry: self.ignore_root_entry,
            selinux: self.selinux,
            ..open.options(cancel)?
        })
    }
}

/// `NAME=N`, N with an optional K, M, G or T (powers of 1024).
fn parse_limit(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("{text:?}: expected NAME=N, like entries=1000000 or file-size=10G");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    let shift = match number.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(b'T' | b't') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { number } else { &number[..number.len() - 1] };
    let value: u64 = digits.parse().map_err(|_| wrong())?;
    Ok((name.to_owned(), value.checked_mul(1 << shift).ok_or_else(wrong)?))
}
