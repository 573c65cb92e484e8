//! `layflat flatten`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum as _};
use layflat::export::{Filesystem, flat_archive, flat_filesystem};
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
/// archive, or a file system image made by mkfs.erofs or mksquashfs.
#[derive(Debug, Args)]
#[command(
    override_usage = "layflat flatten [OPTIONS] <IMAGE> <DEST>\n       layflat flatten [OPTIONS] <IMAGE> --output <FILE>"
)]
#[command(after_help = "Examples:
  docker save app | layflat flatten - rootfs    # then: systemd-nspawn -D rootfs
  layflat flatten docker://alpine:3.20 rootfs
  layflat flatten app.tar -o rootfs.squashfs
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
    /// An EROFS image, by mkfs.erofs (package erofs-utils)
    Erofs,
    /// A SquashFS image, by mksquashfs (package squashfs-tools)
    Squashfs,
}

impl Flatten {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        match (self.format()?, &self.output, &self.dest) {
            // An archive holds any owner, whoever writes it.
            (Some(Format::Tar), Some(file), _) => self.file(Format::Tar, file, Owners::AsTheyAre, common, cancel),
            // An image of a file system is made of a tree, as its maker sees that.
            (Some(format), Some(file), _) => {
                self.file(format, file, self.unpack.owners.settle()?.owners, common, cancel)
            }
            (_, _, Some(directory)) => self.directory(directory, common, cancel),
            _ => anyhow::bail!("no destination: specify a directory, or -o FILE"),
        }
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

    fn file(
        &self,
        format: Format,
        file: &Path,
        owners: Owners,
        common: &Common,
        cancel: &Cancel,
    ) -> anyhow::Result<u8> {
        let options = &self.options(owners, cancel)?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), file)?;
        }
        let destination = output::destination(file)?;
        let output = match format {
            Format::Tar => Output::create(destination, options.replace, options.no_sync)?,
            Format::Erofs | Format::Squashfs => Output::create_seekable(destination, options.replace, options.no_sync)?,
        };
        let image = self.image.open(cancel)?;
        let progress = progress::progress(common);
        let filesystem = |filesystem| flat_filesystem(&image, filesystem, &output, options, progress.as_ref());
        let mut report: Report = match format {
            Format::Tar => {
                let buffered = std::io::BufWriter::with_capacity(256 << 10, output.file());
                flat_archive(&image, buffered, &output.scratch(), options, progress.as_ref())?
            }
            Format::Erofs => filesystem(Filesystem::Erofs)?,
            Format::Squashfs => filesystem(Filesystem::Squashfs)?,
        };
        output.publish()?;
        report.destination = file.to_owned();
        output::report_file(common, file, &report)?;
        Ok(SUCCESS)
    }
}
