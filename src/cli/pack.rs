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
use super::table::{bytes, count};
use super::{SUCCESS, output};

/// Pack an overlay's upper directory as a layer, or the difference of two trees
///
/// Overlay marks become .wh. marks. A renamed directory, or a file whose data is below, needs the lower directories at
/// hand. If there are --lower and no overlay marks at all, TREE is taken for a whole tree, and the layer is how it differs.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The upper directory, unmounted; or a whole tree
    #[arg(value_name = "TREE")]
    tree: PathBuf,
    /// A directory below; topmost first if there are several
    #[arg(long, value_name = "DIR")]
    lower: Vec<PathBuf>,
    /// The layer to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Compress it so: gzip[:LEVEL], zstd[:LEVEL] or none; default: as FILE's name ends, .gz, .tgz or .zst
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// What TREE is; default: told by its marks
    #[arg(long = "as", value_name = "MEANING")]
    meaning: Option<MeaningArg>,
    /// Where overlay marks are; default: told by the marks
    #[arg(long, value_name = "NAMESPACE")]
    xattr_namespace: Option<NamespaceArg>,
    /// Replace a file that is there
    #[arg(long)]
    replace: bool,
    /// Do not wait until the layer is on disk: after a power loss soon after, it may be empty
    #[arg(long)]
    no_sync: bool,
    /// Fail where an archive cannot hold everything, instead of reporting it
    #[arg(long)]
    strict: bool,
    /// Keep security.selinux
    #[arg(long)]
    selinux: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// What a tree is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MeaningArg {
    /// Changes, as an overlay mount leaves them in its upper directory
    Changes,
    /// All that there is, to be compared with --lower
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
            selinux: self.selinux,
            filter: self.filters.filter()?,
            cancel: cancel.clone(),
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
            anyhow::bail!("refused by --strict, since an archive cannot hold all of the tree");
        }
        output.publish()?;
        if self.meaning.is_none() && report.meaning == Meaning::Whole {
            output::say(
                common,
                "note: there are no overlay marks: taken for a whole tree, of which the layer is the difference; --as changes says otherwise",
            );
        }
        if common.json {
            let document = json!({
                "meaning": report.meaning, "entries": report.entries, "marks": report.marks, "not_kept": report.not_kept,
                "digest": facts.digest, "size": facts.size, "diff_id": facts.diff_id, "expanded": facts.expanded,
            });
            output::json_beside(&self.output, &document)?;
        } else {
            let (entries, marks) = (count(report.entries), count(report.marks));
            let name = Printable(self.output.as_os_str().as_encoded_bytes()).to_string();
            let size = bytes(facts.size);
            output::say(
                common,
                format_args!("{name}: {entries} entries, {marks} of them marks, {size}, diff_id {}", facts.diff_id),
            );
        }
        Ok(SUCCESS)
    }
}

/// A layer that is made in a tree that is packed would be packed itself.
fn refuse_inside(output: &Path, tree: &Path) -> anyhow::Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What is not there is for others to say.
    let (Ok(parent), Ok(whole)) = (parent.canonicalize(), tree.canonicalize()) else {
        return Ok(());
    };
    let is_file = output != Path::new("-") && !output.metadata().is_ok_and(|there| !there.is_file());
    if is_file && parent.starts_with(whole) {
        let name = |path: &Path| Printable(path.as_os_str().as_encoded_bytes()).to_string();
        anyhow::bail!("{} lies in the tree {}, and would be part of it; write it elsewhere", name(output), name(tree));
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
