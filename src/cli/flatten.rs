//! `layflat flatten`

use std::io::Write as _;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum as _};
use layflat::blob::{Compress, Compressor};
use layflat::core::text::{Printable, parse_size};
use layflat::export::{
    ErofsCompression, Ext4, flat_archive, flat_compressed_erofs, flat_erofs, flat_ext4, flat_squashfs,
};
use layflat::ext4::Size;
use layflat::fs::Output;
use layflat::image::Image;
use layflat::{Cancel, Options, Owners, Report};

use super::arguments::{Common, ImageArgs, UnpackArgs};
use super::filters::FilterArgs;
use super::made::Made;
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, output, progress, tips};

/// Unpack an image into one root file system
///
/// DEST is created by a single rename: on an error it does not appear at all. An empty directory or an empty mounted
/// file system may be there already. With -o, the root file system is written to one file instead: a sorted tar
/// archive (also .tar.gz, .tar.zst), an EROFS or an ext4 image, or a SquashFS image made by sqfstar.
#[derive(Debug, Args)]
#[command(
    override_usage = "layflat flatten [OPTIONS] <IMAGE> <DEST>\n       layflat flatten [OPTIONS] <IMAGE> --output <FILE>"
)]
#[command(after_help = "Examples:
  docker save app | layflat flatten - rootfs    # then: systemd-nspawn -D rootfs
  layflat flatten docker://alpine:3.20 rootfs
  layflat flatten app.tar -o rootfs.erofs       # mount -o loop rootfs.erofs mnt
  layflat flatten app.tar -o rootfs.ext4 --size +1G   # for a virtual machine
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
    /// Compress a tar archive with gzip or zstd, or an EROFS image with lz4 or zstd, by mkfs.erofs (package erofs-utils)
    /// [default: by the name of FILE]
    #[arg(long, value_name = "ALGORITHM", requires = "output")]
    compression: Option<Compression>,
    /// Size of an ext4 image, or with `+` what is free in it: 2G, +500M [default: +25%, at least +64M]
    #[arg(long, value_name = "SIZE", requires = "output", value_parser = parse_file_system_size)]
    size: Option<Size>,
    /// Label of an ext4 image, at most 16 bytes
    #[arg(hide_short_help = true, long, value_name = "LABEL", requires = "output", value_parser = parse_label)]
    label: Option<String>,
    /// UUID of an ext4 image [default: follows from the layers]
    #[arg(hide_short_help = true, long, value_name = "UUID", requires = "output", value_parser = parse_uuid)]
    uuid: Option<[u8; 16]>,
    /// Also write what the image says to run, as JSON or, if FILE ends in .env, for a shell
    ///
    /// The JSON is the `config` object of the image's configuration. The shell reads IMAGE_ARGS, IMAGE_ENV, IMAGE_USER, IMAGE_WORKING_DIR and
    /// IMAGE_STOP_SIGNAL, the first two as lists of quoted words for eval.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// A SquashFS image, by sqfstar (package squashfs-tools)
    Squashfs,
    /// An ext4 image, checked by e2fsck where that is installed
    Ext4,
}

/// Compression of an archive or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compression {
    /// Of a tar archive
    Gzip,
    /// Of an EROFS image: every kernel with EROFS reads it
    Lz4,
    /// Of a tar archive; of an EROFS image by erofs-utils 1.8 or later, for Linux 6.10 or later
    Zstd,
}

/// How the file is made.
#[derive(Debug, Clone)]
enum Maker {
    Archive(Compress),
    Erofs,
    Ext4(Ext4),
    Squashfs,
    CompressedErofs(ErofsCompression),
}

impl Flatten {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        if let (Some(format), None, Some(dest)) = (self.to, &self.output, &self.dest) {
            let format = format.to_possible_value();
            let format = format.as_ref().map_or("FORMAT", PossibleValue::get_name);
            anyhow::bail!("--to is for files: --to {format} -o {}", dest.display());
        }
        let code = match (self.format()?, &self.output, &self.dest) {
            (Some(format), Some(file), _) => self.file(self.maker(format)?, file, common, cancel),
            (_, _, Some(directory)) => self.directory(directory, common, cancel),
            _ => anyhow::bail!("no destination: specify a directory, or -o FILE"),
        };
        if code.is_ok() {
            self.filters.say_idle(common);
        }
        code
    }

    fn maker(&self, format: Format) -> anyhow::Result<Maker> {
        let is_ext4 = matches!(format, Format::Ext4);
        for (option, is_given) in
            [("--size", self.size.is_some()), ("--label", self.label.is_some()), ("--uuid", self.uuid.is_some())]
        {
            anyhow::ensure!(is_ext4 || !is_given, "{option} is only for ext4 images: -o FILE.ext4, or --to ext4");
        }
        let named = self.output.as_deref().and_then(compression_of).filter(|_| matches!(format, Format::Tar));
        Ok(match (format, self.compression.or(named)) {
            (Format::Erofs, None) => Maker::Erofs,
            (Format::Erofs, Some(Compression::Lz4)) => Maker::CompressedErofs(ErofsCompression::Lz4),
            (Format::Erofs, Some(Compression::Zstd)) => Maker::CompressedErofs(ErofsCompression::Zstd),
            (Format::Tar, Some(Compression::Gzip)) => Maker::Archive(Compress::GZIP),
            (Format::Tar, Some(Compression::Zstd)) => Maker::Archive(Compress::ZSTD),
            (Format::Tar, Some(Compression::Lz4)) => {
                anyhow::bail!("a tar archive is compressed with gzip or zstd, not with lz4")
            }
            (Format::Erofs, Some(Compression::Gzip)) => {
                anyhow::bail!("an EROFS image is compressed with lz4 or zstd, not with gzip")
            }
            (_, Some(_)) => anyhow::bail!("--compression is only for tar archives and EROFS images"),
            (Format::Tar, None) => Maker::Archive(Compress::None),
            (Format::Squashfs, None) => Maker::Squashfs,
            (Format::Ext4, None) => Maker::Ext4(Ext4 {
                size: self.size.unwrap_or_default(),
                label: self.label.clone().unwrap_or_default().into_bytes(),
                uuid: self.uuid,
            }),
        })
    }

    /// The format of the file that is written: as it was said, or as the file is named.
    fn format(&self) -> anyhow::Result<Option<Format>> {
        let (None, Some(file)) = (self.to, &self.output) else { return Ok(self.to) };
        if compression_of(file).is_some() {
            return Ok(Some(Format::Tar));
        }
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let formats = Format::value_variants().iter().filter_map(Format::to_possible_value);
        let names: Vec<String> = formats.map(|format| format.get_name().to_owned()).collect();
        Format::from_str(ending, true).map(Some).map_err(|_| match tips::compressor(file) {
            Some(program) => {
                let name = file.display();
                anyhow::anyhow!(
                    "{name}: layflat compresses with gzip or zstd alone: --to tar -o - | {program} > {name}"
                )
            }
            None => anyhow::anyhow!(
                "{}: --to {} is needed, or a name that ends in .tar.gz, .tar.zst, .{}{}",
                file.display(),
                names.join("|"),
                names.join(", ."),
                other_file_systems(ending)
            ),
        })
    }

    fn options(&self, owners: Owners, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options { filter: self.filters.filter()?, ..self.unpack.options(&self.image.open, owners, cancel)? })
    }

    /// Where the configuration goes; it must be possible before anything is read.
    fn config_output(&self) -> anyhow::Result<Option<(&Path, Output)>> {
        let Some(file) = self.config.as_deref() else { return Ok(None) };
        let is_taken = self.output.as_deref() == Some(file) || self.dest.as_deref() == Some(file);
        anyhow::ensure!(!is_taken, "--config {}: that is the name of the root file system", file.display());
        let output = Output::create(output::destination(file)?, self.unpack.replace, false)?;
        Ok(Some((file, output)))
    }

    fn directory(&self, dest: &Path, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        tips::refuse_archive_name(dest, &format!("for an archive: -o {}", dest.display()))?;
        let settled = self.unpack.owners.settle()?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), dest)?;
        }
        let config = self.config_output()?;
        let image = self.image.open(cancel)?;
        let options = self.options(settled.owners.clone(), cancel)?;
        let config = config.map(|(file, output)| written_config(&image, file, output)).transpose()?;
        let report = layflat::flatten(&image, dest, &options, progress::progress(common).as_ref())?;
        config.map(Output::publish).transpose()?;
        settled.say(common);
        say(common, dest, None, &report)?;
        Ok(SUCCESS)
    }

    fn file(&self, maker: Maker, file: &Path, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let owners = match maker {
            // They hold any owner, whoever writes them.
            Maker::Archive(_) | Maker::Erofs | Maker::Ext4(_) | Maker::Squashfs => Owners::AsTheyAre,
            // Made of a tree, as the tool sees that.
            Maker::CompressedErofs(_) => self.unpack.owners.settle()?.owners,
        };
        let options = &self.options(owners, cancel)?;
        if self.unpack.replace {
            refuse_replacing_source(&self.image.image, self.image.open.remote.cache(), file)?;
        }
        let destination = output::destination(file)?;
        let output = match maker {
            Maker::Archive(_) | Maker::Erofs => Output::create(destination, options.replace, options.no_sync)?,
            Maker::Ext4(_) | Maker::Squashfs | Maker::CompressedErofs(_) => {
                Output::create_seekable(destination, options.replace, options.no_sync)?
            }
        };
        let config = self.config_output()?;
        let image = self.image.open(cancel)?;
        let config = config.map(|(file, output)| written_config(&image, file, output)).transpose()?;
        let progress = progress::progress(common);
        let progress = progress.as_ref();
        let mut report: Report = match maker {
            Maker::Archive(compress) => {
                let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok());
                let mut compressor = Compressor::new(output.file(), compress, jobs.unwrap_or(NonZero::<usize>::MIN))?;
                let buffered = std::io::BufWriter::with_capacity(256 << 10, &mut compressor);
                let report = flat_archive(&image, buffered, &output.scratch(), options, progress)?;
                compressor
                    .finish()
                    .with_context(|| format!("cannot write {}", Printable(file.as_os_str().as_bytes())))?;
                report
            }
            Maker::Erofs => flat_erofs(&image, output.file(), &output.scratch(), options, progress)?,
            Maker::Ext4(ext4) => flat_ext4(&image, &ext4, &output, options, progress)?,
            Maker::Squashfs => flat_squashfs(&image, &output, options, progress)?,
            Maker::CompressedErofs(compression) => {
                flat_compressed_erofs(&image, compression, &output, options, progress)?
            }
        };
        output.publish()?;
        config.map(Output::publish).transpose()?;
        report.destination = file.to_owned();
        say(common, file, Some(file), &report)?;
        Ok(SUCCESS)
    }
}

/// What to do for file systems that no tool fills right without a mount: `mkfs.xfs` has neither times nor hard links, `mkfs.btrfs` no device
/// numbers.
fn other_file_systems(ending: &str) -> String {
    match ending {
        "xfs" | "btrfs" => format!(
            "; mkfs.{ending} cannot make an image that has all files right: mount an empty one, and unpack into it with layflat flatten IMAGE MOUNTPOINT"
        ),
        _ => String::new(),
    }
}

/// How a tar archive is compressed that has this name.
fn compression_of(file: &Path) -> Option<Compression> {
    match tips::compressor(file)? {
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Says what was made: a tree, in one file or not.
fn say(common: &Common, name: &Path, file: Option<&Path>, report: &Report) -> anyhow::Result<()> {
    output::notices(common, &report.notices);
    output::losses(common, &report.not_kept);
    if common.json {
        return file.map_or_else(|| output::json(report), |file| output::json_beside(file, report));
    }
    Made::at(name).tree(&report.made, file).losses(&report.not_kept).say(common, "");
    Ok(())
}

/// Writes what an image says to run, for [`Output::publish`] to show once the root file system is there.
fn written_config(image: &Image, file: &Path, output: Output) -> anyhow::Result<Output> {
    let name = || Printable(file.as_os_str().as_bytes());
    let config =
        image.config.as_ref().with_context(|| format!("--config {}: the image has no configuration", name()))?;
    let config = &config.parsed.config;
    let text = if file.extension().is_some_and(|ending| ending == "env") {
        config.to_shell().with_context(|| format!("--config {}", name()))?
    } else {
        serde_json::to_string_pretty(config)? + "\n"
    };
    output.file().write_all(text.as_bytes()).with_context(|| format!("cannot write {}", name()))?;
    Ok(output)
}

/// `2G` in all, or `+500M` free.
fn parse_file_system_size(text: &str) -> Result<Size, String> {
    match text.strip_prefix('+') {
        Some(free) => parse_size(free).map(Size::Free),
        None => parse_size(text).map(Size::Total),
    }
}

fn parse_label(text: &str) -> Result<String, String> {
    match text.len() {
        ..=16 => Ok(text.to_owned()),
        length => Err(format!("{length} bytes; an ext4 label has at most 16")),
    }
}

/// 32 hexadecimal digits, with or without hyphens between them.
fn parse_uuid(text: &str) -> Result<[u8; 16], String> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
    let mut uuid = [0; 16];
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let is_plain = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
    for (byte, pair) in uuid.iter_mut().zip(pairs) {
        *byte = pair.filter(|_| is_plain).ok_or("expected 32 hexadecimal digits, as uuidgen prints them")?;
    }
    if is_plain { Ok(uuid) } else { Err("expected 32 hexadecimal digits, as uuidgen prints them".to_owned()) }
}
