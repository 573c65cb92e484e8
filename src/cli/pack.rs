//! `layflat pack`

use std::path::{Path, PathBuf};

use clap::Args;
use layflat::blob::{Compress, Compressor};
use layflat::core::text::Printable;
use layflat::fs::Output;
use layflat::pack::{Meaning, PackOptions, pack};
use layflat::{Cancel, XattrNamespace};
use serde_json::json;

use super::arguments::{Common, NamespaceArg};
use super::filters::FilterArgs;
use super::made::Made;
use super::{SUCCESS, output};

/// Turn an overlay upperdir, or the difference of two trees, into a layer
///
/// Overlayfs whiteouts and opaque directories become OCI whiteouts (.wh.NAME). Renamed directories (redirect_dir) and
/// metadata-only files (metacopy) need --lower. With --lower, if TREE has no overlayfs whiteouts, opaque directories or
/// other overlay xattrs, it is taken as a whole tree, and the layer is its difference from --lower.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat pack upper -o layer.tar.zst
  layflat pack --lower rootfs-before rootfs-after -o layer.tar.gz")]
pub(crate) struct Pack {
    /// The upper directory, not mounted at the moment; or a whole tree
    #[arg(value_name = "TREE")]
    tree: PathBuf,
    /// A lower directory; repeatable, topmost first
    #[arg(long, value_name = "DIR")]
    lower: Vec<PathBuf>,
    /// The layer to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Compression: gzip[:LEVEL], zstd[:LEVEL] or none [default: by the name of FILE: .gz, .tgz or .zst]
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// What TREE is [default: detected, see above]
    #[arg(long = "as", value_name = "MEANING")]
    meaning: Option<MeaningArg>,
    /// Xattr namespace of TREE's opaque directories and redirects [default: detected]
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
    /// Replace an existing file
    #[arg(long)]
    replace: bool,
    /// Do not wait until the layer is on disk; after a power loss within the next seconds it may be empty
    #[arg(hide_short_help = true, long)]
    no_sync: bool,
    /// Fail if the archive cannot preserve something, instead of reporting it
    #[arg(long)]
    strict: bool,
    /// Keep SELinux labels (security.selinux)
    #[arg(long)]
    selinux: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// What a tree is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MeaningArg {
    /// Changes: the upper directory of an overlay mount
    Changes,
    /// A complete tree, to be compared with --lower
    Whole,
}

impl Pack {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let options = PackOptions {
            lower: self.lower.clone(),
            meaning: self.meaning.map(|meaning| match meaning {
                MeaningArg::Changes => Meaning::Changes,
                MeaningArg::Whole => Meaning::Whole,
            }),
            xattr_namespace: self.xattr_namespace.map(XattrNamespace::from),
            without_root: false,
            selinux: self.selinux,
            filter: self.filters.filter()?,
            cancel: cancel.clone(),
            ..PackOptions::default()
        };
        for tree in std::iter::once(&self.tree).chain(&self.lower) {
            refuse_inside(&self.output, tree)?;
        }
        let output = Output::create(output::destination(&self.output)?, self.replace, self.no_sync)?;
        let compress = self.compression.unwrap_or_else(|| compression_of(&self.output));
        let jobs = std::thread::available_parallelism().unwrap_or(std::num::NonZero::<usize>::MIN);
        let file = std::io::BufWriter::with_capacity(256 << 10, output.file());
        let mut compressor = Compressor::new(file, compress, jobs)?;
        let report = pack(&self.tree, &options, &mut compressor)?;
        let (_, facts) = compressor.finish()?;
        output::losses(common, &report.not_kept);
        if self.strict && !report.not_kept.is_empty() {
            anyhow::bail!("refused by --strict, since the archive cannot preserve all of the tree");
        }
        output.publish()?;
        if self.meaning.is_none() && report.meaning == Meaning::Whole {
            output::say(
                common,
                "note: no overlay whiteouts or xattrs found: the layer is the difference of this tree from --lower; to pack it as an upper directory, use --as changes",
            );
        }
        if common.json {
            let document = json!({
                "meaning": report.meaning, "entries": report.entries, "whiteouts": report.whiteouts, "not_kept": report.not_kept,
                "digest": facts.digest, "size": facts.size, "diff_id": facts.diff_id, "expanded": facts.expanded,
            });
            output::json_beside(&self.output, &document)?;
        } else {
            // What is added or changed; directories are entries as well.
            let made = Made::at(&self.output).count(report.entries - report.whiteouts, "entry", "entries");
            let made = made.any(report.whiteouts, "whiteout", "whiteouts").bytes(facts.size);
            made.losses(&report.not_kept).say(common, &format!("diff_id {}", facts.diff_id));
        }
        Ok(SUCCESS)
    }
}

/// Refuses an output file inside a tree that is packed: it would be packed too.
fn refuse_inside(output: &Path, tree: &Path) -> anyhow::Result<()> {
    let is_file = output != Path::new("-") && !output.metadata().is_ok_and(|there| !there.is_file());
    if is_file { refuse_within(output, tree) } else { Ok(()) }
}

/// The same for a place that may also be a directory.
pub(super) fn refuse_within(output: &Path, tree: &Path) -> anyhow::Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = if output.is_dir() { output } else { parent };
    // A missing tree is reported when it is read.
    let (Ok(parent), Ok(whole)) = (parent.canonicalize(), tree.canonicalize()) else {
        return Ok(());
    };
    if parent.starts_with(whole) {
        let name = |path: &Path| Printable(path.as_os_str().as_encoded_bytes()).to_string();
        anyhow::bail!(
            "{} is inside the tree {} and would be packed into itself; write it elsewhere",
            name(output),
            name(tree)
        );
    }
    Ok(())
}

fn compression_of(file: &Path) -> Compress {
    match file.extension().and_then(std::ffi::OsStr::to_str) {
        Some("gz" | "tgz") => Compress::GZIP,
        Some("zst") => Compress::ZSTD,
        _ => Compress::None,
    }
}
