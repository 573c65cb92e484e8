//! `layflat flatten`

use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum as _};
use layflat::export::{ErofsCompression, Filesystem, flat_archive, flat_erofs, flat_filesystem};
use layflat::fs::Output;
use layflat::{Cancel, Options, Owners, Report};

use super::arguments::{Common, ImageArgs, UnpackArgs};
use super::filters::FilterArgs;
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, output, progress, tips};

/// Unpack an image into one root file system
///
/// DEST is created by a single rename: on an error it does not appear at all. An empty directory or an empty mounted
/// file system may be there already. With -o, the root file system is written to one file instead: a sorted tar
/// archive, an EROFS image, or a SquashFS image made by mksquashfs.
#[derive(Debug, Args)]
#[command(
    override_usage = "layflat flatten [OPTIONS] <IMAGE> <DEST>\n       layflat flatten [OPTIONS] <IMAGE> --output <FILE>"
)]
#[command(after_help = "Examples:
  docker save app | layflat flatten - rootfs    # then: systemd-nspawn -D rootfs
  layflat flatten docker://alpine:3.20 rootfs
  layflat flatten app.tar -o rootfs.erofs       # mount -o loop rootfs.erofs mnt
  layflat flatten --exclude 'usr/share/doc/*' app.tar rootfs")]
pub(crate) struct Flatten {
    #[command(flatten)]
    image: ImageArgs,
    /// The root file system's directory
    #[arg(required_unless_present_any = ["to", "output"])]
    dest: Option<PathBuf>,
    /// Write a file of this format instead of a directory [default: by the name of FILE]
    #[arg(long, value_name = "FORMAT", requires = "output")]
    to: Option<Format>,
    /// The file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["dest", "uid_map", "record_ownership"])]
    output: Option<PathBuf>,
    /// Compress an EROFS image, with mkfs.erofs (package erofs-utils)
    #[arg(long, value_name = "ALGORITHM", requires = "output")]
    compression: Option<Compression>,
    #[command(flatten)]
    unpack: UnpackArgs,
    #[command(flatten)]
    filters: FilterArgs,
}

/// Formats of a root file system in one file.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A tar archive, sorted, with PAX records where they are needed
    Tar,
    /// An EROFS image
    Erofs,
    /// A SquashFS image, by mksquashfs (package squashfs-tools)
    Squashfs,
}

/// Compression of an EROFS image.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Compression {
    /// LZ4, which every kernel with EROFS reads
    Lz4,
    /// Zstandard, by erofs-utils 1.8 or later, for Linux 6.10 or later
    Zstd,
}

/// How the file is made.
#[derive(Debug, Clone, Copy)]
enum Maker {
    Archive,
    Erofs,
    Tool(Filesystem),
}

impl Flatten {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        if let (Some(format), None, Some(dest)) = (self.to, &self.output, &self.dest) {
            let format = format.to_possible_value();
            let format = format.as_ref().map_or("FORMAT", PossibleValue::get_name);
            anyhow::bail!("--to is for files: --to {format} -o {}", dest.display());
        }
        match (self.format()?, &self.output, &self.dest) {
            (Some(format), Some(file), _) => self.file(self.maker(format)?, file, common, cancel),
            (_, _, Some(directory)) => self.directory(directory, common, cancel),
            _ => anyhow::bail!("no destination: specify a directory, or -o FILE"),
        }
    }

    fn maker(&self, format: Format) -> anyhow::Result<Maker> {
        Ok(match (format, self.compression) {
            (Format::Erofs, None) => Maker::Erofs,
            (Format::Erofs, Some(Compression::Lz4)) => Maker::Tool(Filesystem::Erofs(ErofsCompression::Lz4)),
            (Format::Erofs, Some(Compression::Zstd)) => Maker::Tool(Filesystem::Erofs(ErofsCompression::Zstd)),
            (_, Some(_)) => anyhow::bail!("--compression is only for EROFS images"),
            (Format::Tar, None) => Maker::Archive,
            (Format::Squashfs, None) => Maker::Tool(Filesystem::Squashfs),
        })
    }

    /// The format of the file that is written: as it was said, or as the file is named.
    fn format(&self) -> anyhow::Result<Option<Format>> {
        let (None, Some(file)) = (self.to, &self.output) else { return Ok(self.to) };
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let formats = Format::value_variants().iter().filter_map(Format::to_possible_value);
        let names: Vec<String> = formats.map(|format| format.get_name().to_owned()).collect();
        Format::from_str(ending, true).map(Some).map_err(|_| match tips::compressor(file) {
            Some(program) => {
                let name = file.display();
                anyhow::anyhow!("{name}: the archive is not compressed here: --to tar -o - | {program} > {name}")
            }
            None => anyhow::anyhow!(
                "{}: --to {} is needed, or a name that ends in .{}",
                file.display(),
                names.join("|"),
                names.join(" or .")
            ),
        })
    }

    fn options(&self, owners: Owners, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options { filter: self.filters.filter()?, ..self.unpack.options(&self.image.open, owners, cancel)? })
    }

    fn directory(&self, dest: &Path, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        tips::refuse_archive_name(dest, &format!("for an archive: -o {}", dest.display()))?;
        let settled = self.unpack.owners.settle()?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), dest)?;
        }
        let image = self.image.open(cancel)?;
        let options = self.options(settled.owners.clone(), cancel)?;
        let report = layflat::flatten(&image, dest, &options, progress::progress(common).as_ref())?;
        settled.say(common);
        output::report(common, dest, &report)?;
        Ok(SUCCESS)
    }

    fn file(&self, maker: Maker, file: &Path, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let owners = match maker {
            // They hold any owner, whoever writes them.
            Maker::Archive | Maker::Erofs => Owners::AsTheyAre,
            // Made of a tree, as the tool sees that.
            Maker::Tool(_) => self.unpack.owners.settle()?.owners,
        };
        let options = &self.options(owners, cancel)?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), file)?;
        }
        let destination = output::destination(file)?;
        let output = match maker {
            Maker::Archive | Maker::Erofs => Output::create(destination, options.replace, options.no_sync)?,
            Maker::Tool(_) => Output::create_seekable(destination, options.replace, options.no_sync)?,
        };
        let image = self.image.open(cancel)?;
        let progress = progress::progress(common);
        let progress = progress.as_ref();
        let mut report: Report = match maker {
            Maker::Archive => {
                let buffered = std::io::BufWriter::with_capacity(256 << 10, output.file());
                flat_archive(&image, buffered, &output.scratch(), options, progress)?
            }
            Maker::Erofs => flat_erofs(&image, output.file(), &output.scratch(), options, progress)?,
            Maker::Tool(filesystem) => flat_filesystem(&image, filesystem, &output, options, progress)?,
        };
        output.publish()?;
        report.destination = file.to_owned();
        output::report_file(common, file, &report)?;
        Ok(SUCCESS)
    }
}
