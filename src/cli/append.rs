//! `layflat append`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use layflat::blob::Compress;
use layflat::core::reference::Reference;
use layflat::edit::{NewLayer, of_archive, of_directory};
use layflat::pack::PackOptions;
use layflat::transport::source;
use layflat::{Cancel, Options};

use super::arguments::Common;
use super::edit::{EditArgs, Layers};
use super::filters::FilterArgs;
use super::pack::refuse_within;

/// Add layers to an image: tar archives or directories
///
/// Each LAYER goes on top, in order: a tar archive (plain, gzip, zstd, xz or bzip2, whatever its name), what `layflat
/// pack` wrote, standard input (`-`), or a directory, whose contents go to the root of the image. An overlay upperdir is
/// a directory, too: what it deletes is deleted in the image. The layers below stay byte for byte, and the configuration
/// as it is unless an option changes it. Filters change directories only. The new image goes to DST, any destination of `layflat copy`; IMAGE stays.
/// Images for several platforms need --platform or --all-platforms.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat append docker://alpine files.tar docker://localhost:5000/app:1
  layflat append --owner 0:0 --entrypoint /bin/app app.tar build/rootfs oci:layout:app
  tar -c etc | layflat append app.tar - docker-archive:new.tar:app:2")]
pub(crate) struct Append {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// The layers, the lowest first
    #[arg(value_name = "LAYER", required = true)]
    layers: Vec<PathBuf>,
    /// The destination, as for `layflat copy`
    #[arg(value_name = "DST")]
    destination: OsString,
    /// Compression of the new layers: gzip[:LEVEL], zstd[:LEVEL] or none [default: keep, and gzip for what is not
    /// compressed]
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compress>,
    /// Keep SELinux labels (security.selinux) of directories
    #[arg(long)]
    selinux: bool,
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    filters: FilterArgs,
}

impl Append {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let packing = PackOptions {
            without_root: true,
            selinux: self.selinux,
            filter: self.filters.filter()?,
            cancel: cancel.clone(),
            ..PackOptions::default()
        };
        let destination = source::reference(&self.destination)?;
        for layer in &self.layers {
            if layer.is_dir() {
                if let Some(place) = place(&destination) {
                    refuse_within(place, layer)?;
                }
            } else {
                anyhow::ensure!(
                    packing.filter.is_empty() && !self.selinux,
                    "{layer:?} is not a directory, and only directories are filtered: an archive is added as it is"
                );
            }
        }
        let stdin = self.layers.iter().filter(|layer| *layer == Path::new("-")).count();
        let from_stdin = usize::from(source_is_stdin(&source::reference(&self.image)?)) + stdin;
        anyhow::ensure!(from_stdin < 2, "standard input can be read once, and {from_stdin} arguments are `-`");
        let make = |options: &Options| {
            let one = |path: &PathBuf| -> anyhow::Result<NewLayer> {
                Ok(match path.is_dir() {
                    true => of_directory(path, &std::env::temp_dir(), &packing)?,
                    false => of_archive(path, self.compression, options)?,
                })
            };
            self.layers.iter().map(one).collect()
        };
        let layers = Layers { compression: self.compression, make: &make };
        self.edit.run((&self.image, &self.destination), &layers, common, cancel)
    }
}

/// The file or directory that a destination is.
fn place(destination: &Reference) -> Option<&Path> {
    let path = match destination {
        Reference::OciLayout { directory, .. } | Reference::Directory(directory) => directory,
        Reference::OciArchive { file, .. } | Reference::DockerArchive { file, .. } => file,
        _ => return None,
    };
    (path != Path::new("-")).then_some(path)
}

fn source_is_stdin(source: &Reference) -> bool {
    let path = match source {
        Reference::OciArchive { file, .. } | Reference::DockerArchive { file, .. } | Reference::Path(file) => file,
        _ => return false,
    };
    path == Path::new("-")
}
