//! `layflat copy`

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use layflat::blob::Compress;
use layflat::copy::{CopyOptions, CopyReport, Format, Outcome, copy_with_referrers};
use layflat::core::reference::Reference;
use layflat::core::text::{Printable, parse_size};
use layflat::split::split_all;
use layflat::squash::filter_all;
use layflat::transport::source::{self, Selection};
use layflat::transport::store;
use layflat::transport::store::{Form, Store};
use layflat::{Cancel, Options};

use super::arguments::{Common, OpenArgs};
use super::ends::EndsArgs;
use super::filters::FilterArgs;
use super::made::Made;
use super::table::{align, bytes};
use super::{SUCCESS, hints, output, progress};

/// Copy images between registries, engines, archives and OCI layouts
///
/// DST is docker://HOST[:PORT]/NAME[:TAG], docker-daemon:NAME:TAG, docker-archive:FILE[:NAME:TAG], oci:DIR[:TAG],
/// oci-archive:FILE[:TAG] or dir:DIR. FILE may be `-` for standard output. Images already in DST stay; the new image is
/// added and shares blobs with them. Unchanged blobs keep their digests, and blobs that DST already has are not read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat copy docker://alpine:3.20 oci:layout:alpine          # pull
  layflat copy app.tar docker://localhost:5000/app:1           # push
  layflat copy docker-daemon:app:dev docker-archive:app.tar    # save
  layflat copy --all-platforms docker://alpine docker://registry.example.com/alpine")]
pub(crate) struct Copy {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "SRC")]
    source: OsString,
    /// The destination
    #[arg(value_name = "DST")]
    destination: OsString,
    /// Do not wait until what is stored in a file or directory is on disk: after a power loss soon after, it may be
    /// damaged
    #[arg(long)]
    no_sync: bool,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    ends: EndsArgs,
    /// Layer compression: gzip[:LEVEL], zstd[:LEVEL] or none [default: keep]
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// Make several smaller layers of each with more than SIZE uncompressed bytes, like 256M, so that engines unpack them
    /// in parallel. They show the same files, and are compressed with zstd unless --compression or --format says
    /// otherwise. Temporary files are written to TMPDIR, uncompressed
    #[arg(hide_short_help = true, long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "referrers")]
    split: Option<u64>,
    /// Manifest format: auto, oci or docker. auto keeps the format, unless a registry only accepts Docker's
    /// [default: auto]
    #[arg(long, value_name = "FORMAT", default_value = "auto", hide_default_value = true)]
    format: Format,
    /// Copy a whole index: the images for all platforms, and everything else it lists
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Copy all images of SRC, each with its tag
    #[arg(long)]
    all_tags: bool,
    /// Also copy referrers of the images: signatures, attestations, SBOMs
    #[arg(long)]
    referrers: bool,
    /// Also push non-distributable layers. Without this, those with URLs are skipped, as Docker does
    #[arg(long)]
    allow_nondistributable: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

impl Copy {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let (source, destination) = (source::reference(&self.source)?, source::reference(&self.destination)?);
        // A copy keeps SELinux labels: a filter only changes what it names.
        let filter = Options { filter: self.filters.filter()?, selinux: true, ..self.open.options(cancel)? };
        // What cannot be written to is better known before anything was read.
        let both = (&source, &destination);
        let store = open_store(both, &self.open, &self.ends, self.no_sync, cancel)?;
        let selection = Selection { all_tags: self.all_tags, all_platforms: self.all_platforms };
        let opening = self.ends.open_options(both, &self.open, cancel)?;
        let images = layflat::transport::source::open_set(&source, selection, &opening)
            .with_context(|| format!("cannot open {source}"))?;
        let referrers = if self.referrers {
            let found = layflat::transport::source::referrers(&source, &images, &opening);
            found.with_context(|| format!("cannot list the referrers of {source}"))?
        } else {
            Vec::new()
        };
        let progress = progress::progress(common);
        let mut images = filter_all(images, &std::env::temp_dir(), &filter, progress.as_ref())?;
        if let Some(size) = self.split {
            images = split_all(images, size, &std::env::temp_dir(), &filter, progress.as_ref())?;
        }
        let options = CopyOptions {
            jobs: filter.jobs,
            compression: self.compression.or_else(|| self.split.and(of_parts(store.form(), self.format))),
            compress_new_only: self.compression.is_none(),
            format: self.format,
            several: self.all_tags,
            allow_nondistributable: self.allow_nondistributable,
            limits: filter.limits,
            cancel: cancel.clone(),
        };
        let report = copy_with_referrers(&images, &referrers, store, &options, progress.as_ref())?;
        drop(progress);
        self.filters.say_idle(common);
        report_copy(common, &destination, &report, self.filters.left_out())?;
        Ok(SUCCESS)
    }
}

/// How the parts of a layer are compressed when nobody says: with zstd, which is quickest to unpack, where the place has it.
fn of_parts(form: Form, format: Format) -> Option<Compress> {
    (form != Form::Saved && format != Format::Docker).then_some(Compress::ZSTD)
}

/// Opens the place that images are put into.
pub(super) fn open_store(
    both: (&Reference, &Reference),
    open: &OpenArgs,
    ends: &EndsArgs,
    no_sync: bool,
    cancel: &Cancel,
) -> anyhow::Result<Box<dyn Store>> {
    let (source, destination) = both;
    if is_stdout(destination) {
        output::refuse_terminal()?;
    }
    let registry = ends.registry(both, &open.remote)?;
    let source_options = open.open_options_with(registry.clone(), cancel)?;
    let options = store::OpenOptions {
        limits: source_options.limits,
        no_sync,
        cancel: cancel.clone(),
        registry,
        daemon: source_options.daemon.clone(),
        origin: match source {
            Reference::Registry(name) => Some(name.clone()),
            _ => None,
        },
    };
    store::open(destination, &options).with_context(|| format!("cannot write to {destination}"))
}

/// Whether an archive goes to standard output, where nothing else is printed then.
fn is_stdout(destination: &Reference) -> bool {
    let (Reference::DockerArchive { file, .. } | Reference::OciArchive { file, .. }) = destination else {
        return false;
    };
    file == Path::new("-")
}

/// Prints what was copied, and how many names filters left out.
pub(super) fn report_copy(
    common: &Common,
    destination: &Reference,
    report: &CopyReport,
    names: u64,
) -> anyhow::Result<()> {
    for note in &report.notes {
        output::note(common, note, hints::of_note(note));
    }
    let place = Path::new(if is_stdout(destination) { "-" } else { "" });
    if common.json {
        output::json_beside(place, report)?;
    } else if !common.quiet && !is_stdout(destination) {
        output::lines(table(report))?;
    }
    let left_out = report.blobs.iter().filter(|blob| blob.outcome == Outcome::LeftOut).count() as u64;
    let made = Made::called(Printable(destination.to_string().as_bytes()))
        .count(report.images.len() as u64, "image", "images")
        .any(report.referrers.len() as u64, "referrer", "referrers")
        .count(report.blobs.len() as u64 - left_out, "blob", "blobs")
        .bytes(report.bytes());
    made.left_out(left_out + names).say(common, "");
    Ok(())
}

/// A line a blob, and one an image.
fn table(report: &CopyReport) -> Vec<String> {
    let blob = |blob: &layflat::copy::BlobReport| {
        let from = blob.source_digest.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
        let what = format!("{:10} {}{from}", blob.kind, blob.digest);
        vec![blob.outcome.name().to_owned(), bytes(blob.size), what]
    };
    let mut lines = align(&report.blobs.iter().map(blob).collect::<Vec<_>>());
    let all = report.images.iter().map(|image| ("image", image));
    for (what, image) in all.chain(report.referrers.iter().map(|referrer| ("referrer", referrer))) {
        let digest = image.manifest_digest.as_ref().or(image.config_digest.as_ref());
        let digest = digest.map(ToString::to_string).unwrap_or_default();
        let names: Vec<String> = image.names.iter().map(|name| Printable(name.as_bytes()).to_string()).collect();
        lines.push(format!("{what} {digest} {}", names.join(" ")).trim_end().to_owned());
    }
    lines
}
