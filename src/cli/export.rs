//! `layflat export`

use clap::{Args, ValueEnum};
use layflat::core::text::Printable;
use layflat::export::{FileSystem, kept_file};
use layflat::{Cancel, Owners};
use serde_json::json;

use super::arguments::{Common, ImageArgs, TreeArgs};
use super::made::Made;
use super::{SUCCESS, output, progress};

/// Make one file of an image in the cache, once for all who use it, and print its path
///
/// The file is a read-only file system image of what the image shows. Its name follows from the layers and the options, and whoever asks for it again
/// gets the same file, without any layer being read. Of several processes, also on several nodes that share the cache, one makes it, and the others
/// wait.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  file=$(layflat export docker://app:1 --cache-dir /shared --to squashfs)
  mount -o loop,ro \"$file\" mnt
  enroot create --name app \"$(layflat export docker://app:1 --cache-dir /shared --to enroot)\"")]
pub(crate) struct Export {
    #[command(flatten)]
    image: ImageArgs,
    /// The format of the file
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// Check every byte of a file that is there (full), or only if it was changed (cached)
    #[arg(hide_short_help = true, long, value_name = "WHAT", default_value = "cached")]
    verify: Verify,
    #[command(flatten)]
    tree: TreeArgs,
}

/// Formats of file systems.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A SquashFS image, by sqfstar (package squashfs-tools)
    Squashfs,
    /// An EROFS image
    Erofs,
    /// A SquashFS image for enroot and pyxis, as `enroot import` makes them: with /etc/rc and its companions, all files root's
    Enroot,
}

/// What is checked of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    /// Every byte
    Full,
    /// Every byte of what was changed
    Cached,
}

impl Export {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let cache = self.image.open.remote.cache_directory()?;
        let image = self.image.open(cancel)?;
        let options = self.tree.options(&self.image.open, Owners::AsTheyAre, cancel)?;
        let file_system = match self.to {
            Format::Squashfs => FileSystem::Squashfs,
            Format::Erofs => FileSystem::Erofs,
            Format::Enroot => FileSystem::Enroot,
        };
        let every_byte = self.verify == Verify::Full;
        let progress = progress::progress(common);
        let file = kept_file(&image, &cache, file_system, every_byte, &options, progress.as_ref())?;
        drop(progress);
        let report = file.report();
        output::notices(common, report.map_or(&[], |report| &report.notices));
        output::losses(common, file.not_kept());
        if common.json {
            output::json(&json!({
                "path": file.path().to_string_lossy(), "size": file.size(), "form": file_system.name(), "made": report.is_some(),
                "not_kept": file.not_kept(), "report": report,
            }))?;
            return Ok(SUCCESS);
        }
        // Scripts read it: the path as it is.
        output::print(|out| {
            out.write_all(file.path().as_os_str().as_encoded_bytes())?;
            out.write_all(b"\n")
        })?;
        match report {
            Some(report) => {
                let name = Printable(file.path().as_os_str().as_encoded_bytes());
                Made::called(name).tree(&report.made, Some(file.path())).losses(file.not_kept()).say(common, "");
            }
            None => output::say(common, "it was there already"),
        }
        Ok(SUCCESS)
    }
}
